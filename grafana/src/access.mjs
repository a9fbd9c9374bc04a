// Who came in, who tried to, and what was changed.

import * as kit from './kit.mjs';
import { DASHBOARDS, alerts, applianceLink, events, happened, of, total } from './kit.mjs';

const count = (title, about, metric, extra) =>
  kit.stat({
    title,
    about,
    queries: [kit.instant(total('', metric))],
    unit: 'short',
    empty: 'none ever counted',
    ...extra,
  });

const FAILURES = { thresholds: kit.ANY_IS_WARN };

export default kit.dashboard(
  DASHBOARDS.access,
  'Logins, failures, commands and account changes, from sshd, PAM, login, lunash, the Admin API and shadow.',
  kit.APPLIANCE_VARIABLES,
  alerts('severity=~"critical|warning"'),
  [
    kit.wrong({
      title: 'Access that is wrong, and since when',
      about: 'Alerts that fire about logins, accounts and deleted logs.',
      matchers: 'component="access"',
      height: 6,
    }),
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
    kit.bars({
      title: 'ssh logins by method',
      about: 'Accepted lines of sshd.',
      color: kit.NEUTRAL,
      queries: [
        kit.range(events('method', of('sshd_logins_accepted_total')), '{{method}}'),
      ],
    }),
    kit.bars({
      title: 'ssh failures by method',
      about: 'Failed lines of sshd, one per attempt; “invalid user” where the account does not exist.',
      queries: [
        kit.range(
          events('method', of('sshd_login_failures_total', 'invalid_user!="true"')),
          '{{method}}',
        ),
        kit.range(
          events('method', of('sshd_login_failures_total', 'invalid_user="true"')),
          '{{method}} invalid user',
        ),
      ],
    }),
    kit.table({
      title: 'Failed logins by appliance',
      about: 'Failed lines of sshd, login, AdminAPI and PAM in the time range, the 100 appliances with the most.',
      queries: [
        kit.rows(happened('appliance', of('sshd_login_failures_total'))),
        kit.rows(happened('appliance', of('login_failures_total'))),
        kit.rows(happened('appliance', of('adminapi_logins_total', 'result="failed"'))),
        kit.rows(happened('appliance', of('pam_authentication_failures_total'))),
      ],
      columns: [
        { from: 'appliance', as: 'Appliance', links: [applianceLink(DASHBOARDS.access)] },
        { from: 'Value #A', as: 'ssh', unit: 'short', decimals: 0, mappings: kit.NO_DATA, plain: true },
        { from: 'Value #B', as: 'Console', unit: 'short', decimals: 0, mappings: kit.NO_DATA, plain: true },
        { from: 'Value #C', as: 'Admin API', unit: 'short', decimals: 0, mappings: kit.NO_DATA, plain: true },
        { from: 'Value #D', as: 'PAM', unit: 'short', decimals: 0, mappings: kit.NO_DATA, plain: true },
      ],
      sort: ['ssh', 'Console'],
    }),
    kit.table({
      title: 'sshd events',
      about: 'What else sshd has logged in the time range: scans, protocol errors, throttling, refused users.',
      queries: [kit.rows(happened('appliance, event', of('sshd_events_total')))],
      columns: [
        { from: 'appliance', as: 'Appliance' },
        { from: 'event', as: 'Event' },
        { from: 'Value', as: 'Times', unit: 'short', decimals: 0 },
      ],
      sort: ['Times'],
    }),
    kit.table({
      title: 'Account changes by program',
      about: 'What useradd, usermod, passwd and others have done in the time range.',
      width: 24,
      queries: [kit.rows(happened('appliance, program, event', of('account_changes_total')))],
      columns: [
        { from: 'appliance', as: 'Appliance' },
        { from: 'program', as: 'Program' },
        { from: 'event', as: 'Change' },
        { from: 'Value', as: 'Times', unit: 'short', decimals: 0 },
      ],
      sort: ['Times'],
    }),
    kit.closed('PAM, shell and Admin API', [
    kit.bars({
      title: 'PAM and console failures',
      about: 'Authentication failures by PAM service, and failed logins at the console.',
      height: 9,
      queries: [
        kit.range(
          events('service', of('pam_authentication_failures_total')),
          'PAM {{service}}',
        ),
        kit.range(events('', of('login_failures_total')), 'console'),
      ],
    }),
    kit.table({
      title: 'lunash commands by account',
      about: 'Commands in the time range, by their first two words, from lunash.',
      queries: [kit.rows(happened('appliance, account, command', of('lunash_commands_total')))],
      columns: [
        { from: 'appliance', as: 'Appliance' },
        { from: 'account', as: 'Account' },
        { from: 'command', as: 'Command' },
        { from: 'Value', as: 'Times', unit: 'short', decimals: 0 },
      ],
      sort: ['Times'],
    }),
    kit.coloured(kit.bars({
      title: 'lunash and HSM logins',
      about: 'Logins to the shell by account, and failed HSM logins by role, from lunash.',
      height: 9,
      color: kit.NEUTRAL,
      queries: [
        kit.range(
          events('account', of('lunash_logins_total')),
          '{{account}}',
        ),
        kit.range(
          events('role', of('hsm_login_failures_total')),
          '{{role}} failed',
        ),
      ],
    }), '.* failed', kit.BAD),
    kit.coloured(kit.bars({
      title: 'Admin API logins',
      about: 'Logins at the Admin API, by result, from AdminAPI.',
      color: kit.NEUTRAL,
      queries: [
        kit.range(events('result', of('adminapi_logins_total')), '{{result}}'),
      ],
    }), 'failed', kit.BAD),
    kit.bars({
      title: 'Admin API events',
      about: 'All messages of AdminAPI, by event.',
      color: kit.NEUTRAL,
      queries: [
        kit.range(events('event', of('adminapi_events_total')), '{{event}}'),
      ],
    }),
    ]),
  ],
);
