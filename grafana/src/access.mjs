// Who came in, who tried to, and what was changed.

import * as kit from './kit.mjs';
import { DASHBOARDS, alerts, events, of, total } from './kit.mjs';

const count = (title, about, metric, extra) =>
  kit.stat({
    title,
    about,
    queries: [kit.instant(`sum(${total('appliance', metric)})`)],
    unit: 'short',
    ...extra,
  });

const FAILURES = { thresholds: kit.ANY_IS_WARN };

export default kit.dashboard(
  DASHBOARDS.access,
  'Logins, failures, commands and account changes, from sshd, PAM, login, lunash, the Admin API and shadow.',
  kit.APPLIANCE_VARIABLES,
  alerts('severity=~"critical|warning"'),
  [
    count('ssh logins', 'Accepted ssh logins in the time range, from sshd.', of('sshd_logins_accepted_total')),
    count(
      'ssh failures',
      'Failed ssh attempts in the time range, one per attempt, from sshd.',
      of('sshd_login_failures_total'),
      FAILURES,
    ),
    count(
      'Console failures',
      'Failed logins at the console in the time range, from login.',
      of('login_failures_total'),
      FAILURES,
    ),
    count(
      'HSM login failures',
      'Wrong HSM password or PED key in the time range, from lunash.',
      of('hsm_login_failures_total'),
      FAILURES,
    ),
    count(
      'Admin API failures',
      'Failed logins at the Admin API in the time range, from AdminAPI.',
      of('adminapi_logins_total', 'result="failed"'),
      FAILURES,
    ),
    count(
      'Account changes',
      'Accounts and groups made, changed and removed in the time range, from useradd, usermod, passwd and others.',
      of('account_changes_total'),
      FAILURES,
    ),
    kit.row('ssh'),
    kit.bars({
      title: 'ssh logins by method',
      about: 'Accepted lines of sshd.',
      queries: [
        kit.range(kit.happened(events('appliance, method', of('sshd_logins_accepted_total'))), '{{appliance}} {{method}}'),
      ],
    }),
    kit.bars({
      title: 'ssh failures by method',
      about: 'Failed lines of sshd, one per attempt; “invalid user” where the account does not exist.',
      queries: [
        kit.range(
          kit.happened(events('appliance, method', of('sshd_login_failures_total', 'invalid_user!="true"'))),
          '{{appliance}} {{method}}',
        ),
        kit.range(
          kit.happened(events('appliance, method', of('sshd_login_failures_total', 'invalid_user="true"'))),
          '{{appliance}} {{method}} invalid user',
        ),
      ],
    }),
    kit.table({
      title: 'sshd events',
      about: 'What else sshd has logged in the time range: scans, protocol errors, throttling, refused users.',
      queries: [kit.rows(kit.happened(total('appliance, event', of('sshd_events_total'))))],
      columns: [
        { from: 'appliance', as: 'Appliance' },
        { from: 'event', as: 'Event' },
        { from: 'Value', as: 'Times', unit: 'short', decimals: 0 },
      ],
      sort: ['Times'],
    }),
    kit.bars({
      title: 'PAM and console failures',
      about: 'Authentication failures by PAM service, and failed logins at the console.',
      height: 9,
      queries: [
        kit.range(
          kit.happened(events('appliance, service', of('pam_authentication_failures_total'))),
          '{{appliance}} PAM {{service}}',
        ),
        kit.range(kit.happened(events('appliance', of('login_failures_total'))), '{{appliance}} console'),
      ],
    }),
    kit.row('The appliance’s own shell and API'),
    kit.table({
      title: 'lunash commands by account',
      about: 'Commands in the time range, by their first two words, from lunash.',
      queries: [kit.rows(kit.happened(total('appliance, account, command', of('lunash_commands_total'))))],
      columns: [
        { from: 'appliance', as: 'Appliance' },
        { from: 'account', as: 'Account' },
        { from: 'command', as: 'Command' },
        { from: 'Value', as: 'Times', unit: 'short', decimals: 0 },
      ],
      sort: ['Times'],
    }),
    kit.bars({
      title: 'lunash and HSM logins',
      about: 'Logins to the shell by account, and failed HSM logins by role, from lunash.',
      height: 9,
      queries: [
        kit.range(
          kit.happened(events('appliance, account', of('lunash_logins_total'))),
          '{{appliance}} {{account}}',
        ),
        kit.range(
          kit.happened(events('appliance, role', of('hsm_login_failures_total'))),
          '{{appliance}} {{role}} failed',
        ),
      ],
    }),
    kit.bars({
      title: 'Admin API logins',
      about: 'Logins at the Admin API, by result, from AdminAPI.',
      queries: [
        kit.range(kit.happened(events('appliance, result', of('adminapi_logins_total'))), '{{appliance}} {{result}}'),
      ],
    }),
    kit.bars({
      title: 'Admin API events',
      about: 'All messages of AdminAPI, by event.',
      queries: [
        kit.range(kit.happened(events('appliance, event', of('adminapi_events_total'))), '{{appliance}} {{event}}'),
      ],
    }),
    kit.row('Accounts'),
    kit.table({
      title: 'Account changes by program',
      about: 'What useradd, usermod, passwd and others have done in the time range.',
      width: 24,
      queries: [kit.rows(kit.happened(total('appliance, program, event', of('account_changes_total'))))],
      columns: [
        { from: 'appliance', as: 'Appliance' },
        { from: 'program', as: 'Program' },
        { from: 'event', as: 'Change' },
        { from: 'Value', as: 'Times', unit: 'short', decimals: 0 },
      ],
      sort: ['Times'],
    }),
  ],
);
