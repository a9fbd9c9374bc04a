// Checks the dashboards against the schema of Grafana's own types: the builder library's type declarations, turned
// into JSON Schema with unknown keys forbidden. It checks the JSON as committed, and goes further than the dashboard
// type itself, which leaves a panel's options, its custom field settings and its queries open.
//
//   npm run validate [directory]
//
// Prints every fault and exits 1 if there is any.

import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import Ajv from 'ajv';
import { createGenerator } from 'ts-json-schema-generator';

const here = fileURLToPath(new URL('.', import.meta.url));
const directory = process.argv[2] ?? join(here, 'dashboards');

const validator = (module, type) => {
  const schema = createGenerator({
    path: join(here, `node_modules/@grafana/grafana-foundation-sdk/dist/${module}/types.gen.d.ts`),
    type,
    functions: 'hide',
    skipTypeCheck: true,
    additionalProperties: false,
  }).createSchema(type);
  return new Ajv({ allErrors: true, strict: false }).compile(schema);
};

const dashboardType = validator('dashboard', 'Dashboard');
const queryType = validator('prometheus', 'Dataquery');
const panelTypes = {
  stat: { options: validator('stat', 'Options') },
  'state-timeline': {
    options: validator('statetimeline', 'Options'),
    custom: validator('statetimeline', 'FieldConfig'),
  },
  table: { options: validator('table', 'Options'), custom: validator('table', 'FieldConfig') },
  timeseries: { options: validator('timeseries', 'Options'), custom: validator('timeseries', 'FieldConfig') },
};

// Panels of closed rows are inside of them.
const flat = (panels) => panels.flatMap((panel) => [panel, ...(panel.panels ?? [])]);

let faults = 0;
const check = (where, type, value) => {
  if (type(value)) return;
  for (const error of type.errors) {
    faults += 1;
    const extra = error.params?.additionalProperty ? ` (${error.params.additionalProperty})` : '';
    console.error(`${where}${error.instancePath}: ${error.message}${extra}`);
  }
};

const files = readdirSync(directory).filter((name) => name.endsWith('.json'));
if (files.length === 0) {
  console.error(`${directory}: no dashboard`);
  process.exit(1);
}
for (const file of files) {
  const dashboard = JSON.parse(readFileSync(join(directory, file), 'utf8'));
  // Queries are plug-in data: the dashboard type knows nothing about them.
  const bare = structuredClone(dashboard);
  for (const panel of flat(bare.panels)) delete panel.targets;
  check(file, dashboardType, bare);

  for (const panel of flat(dashboard.panels).filter(({ type }) => type !== 'row')) {
    const where = `${file}: ${panel.title}: `;
    const type = panelTypes[panel.type];
    if (!type) {
      faults += 1;
      console.error(`${where}panel type \`${panel.type}\` is not one that the dashboards use`);
      continue;
    }
    check(`${where}options`, type.options, panel.options);
    if (type.custom) check(`${where}custom`, type.custom, panel.fieldConfig.defaults.custom);
    for (const override of panel.fieldConfig.overrides) {
      for (const { id, value } of override.properties.filter(({ id }) => id.startsWith('custom.'))) {
        check(`${where}override`, type.custom, {
          ...panel.fieldConfig.defaults.custom,
          [id.slice('custom.'.length)]: value,
        });
      }
    }
    for (const target of panel.targets) check(`${where}query ${target.refId}`, queryType, target);
  }
}
process.exit(faults ? 1 : 0);
