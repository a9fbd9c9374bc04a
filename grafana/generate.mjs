// Writes the dashboards as classic Grafana JSON into `dashboards/`, or into the directory given as argument.
//
//   npm ci && npm run generate

import { mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

import access from './src/access.mjs';
import exporter from './src/exporter.mjs';
import fleet from './src/fleet.mjs';
import hardware from './src/hardware.mjs';
import hsm from './src/hsm.mjs';
import ipsec from './src/ipsec.mjs';
import ktls from './src/ktls.mjs';
import shards from './src/shards.mjs';

const directory = process.argv[2] ?? fileURLToPath(new URL('dashboards', import.meta.url));
mkdirSync(directory, { recursive: true });
for (const [name, dashboard] of Object.entries({ access, exporter, fleet, hardware, hsm, ipsec, ktls, shards })) {
  writeFileSync(join(directory, `${name}.json`), JSON.stringify(dashboard, null, 2) + '\n');
}
