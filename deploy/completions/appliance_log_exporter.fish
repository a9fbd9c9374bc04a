# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_appliance_log_exporter_global_optspecs
    string join \n config.file= rules.dir= log.file= config.enable-auto-reload config.auto-reload-interval= state.dir= syslog.listen= syslog.tls-cert-file= syslog.tls-key-file= syslog.tls-client-ca-file= web.listen-address= web.systemd-socket web.config.file= web.enable-lifecycle web.external-url= web.route-prefix= web.telemetry-path= shard= tail.watcher= log.level= log.format= h/help V/version
end

function __fish_appliance_log_exporter_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_appliance_log_exporter_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_appliance_log_exporter_using_subcommand
    set -l cmd (__fish_appliance_log_exporter_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l config.file -d 'Configuration file (YAML). Every setting has a default' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l rules.dir -d 'Directory of rule packs, used before the built-in ones (repeatable) [default: /etc/appliance_log_exporter/rules if it exists]' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l log.file -d 'File to follow, or a quoted glob (repeatable)' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l config.auto-reload-interval -d 'How often --config.enable-auto-reload looks for changes' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l state.dir -d 'Directory for file positions, counter values and what was received, so that they survive a restart [default: none]' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l syslog.listen -d 'Address to receive syslog on: udp://, tcp:// or tls:// with HOST:PORT, :PORT for all interfaces, or systemd/NAME for sockets that systemd passes (repeatable). A sender is known by its certificate, if it needs one, else by its address' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l syslog.tls-cert-file -d 'Certificate for tls://, PEM' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l syslog.tls-key-file -d 'Key of the certificate, PEM' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l syslog.tls-client-ca-file -d 'Who signs the certificates of senders, PEM. With it, a sender needs one' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l web.listen-address -d 'Address to listen on: HOST:PORT, or :PORT for all interfaces (repeatable) [default: :10067, of demo 127.0.0.1:10067]' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l web.config.file -d 'Web configuration file (exporter-toolkit format): TLS, basic auth, headers' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l web.external-url -d 'URL under which clients reach the exporter, if a reverse proxy is between; its path is what redirects begin with' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l web.route-prefix -d 'What all paths begin with [default: the path of --web.external-url]' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l web.telemetry-path -d 'Path of the metrics' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l shard -d 'Which partitions of Kafka\'s topics are read: those whose number modulo N is I; auto takes I from the number at the end of the host name [default: all]' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l tail.watcher -d 'How changes to files are noticed; files are checked regularly either way [default: inotify]' -r -f -a "inotify\t''
linemux\t''
poll\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l log.level -d 'Log only messages of this level or above' -r -f -a "debug\t''
info\t''
warn\t''
error\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l log.format -d 'Format of log messages' -r -f -a "logfmt\t''
json\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l config.enable-auto-reload -d 'Reload when the configuration file or a rule pack has changed. (The web configuration is read anew in any case.)'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l web.systemd-socket -d 'Use the sockets that systemd passes instead of opening any, but for those that --syslog.listen or a source names'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l web.enable-lifecycle -d 'Answer POST /-/reload and POST /-/forget. They are answered without this flag if the web configuration asks for a password'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -s V -l version -d 'Print version'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -f -a "check" -d 'Check everything that a start checks, and run the examples of the rules'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -f -a "replay" -d 'Read logs to their end and print the metrics'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -f -a "explain" -d 'Explain what lines mean: header, rule, captures, changes to metrics'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -f -a "suggest" -d 'Draft rules for the lines of a log that no rule recognises'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -f -a "demo" -d 'Write the logs of a small fleet to a temporary directory, and follow them'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -f -a "forget" -d 'Make an exporter that runs forget an appliance and all its series'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -f -a "completions" -d 'Print the completion script of a shell'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l config.file -d 'Configuration file (YAML). Every setting has a default' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l rules.dir -d 'Directory of rule packs, used before the built-in ones (repeatable) [default: /etc/appliance_log_exporter/rules if it exists]' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l log.file -d 'File to follow, or a quoted glob (repeatable)' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l config.auto-reload-interval -d 'How often --config.enable-auto-reload looks for changes' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l state.dir -d 'Directory for file positions, counter values and what was received, so that they survive a restart [default: none]' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l syslog.listen -d 'Address to receive syslog on: udp://, tcp:// or tls:// with HOST:PORT, :PORT for all interfaces, or systemd/NAME for sockets that systemd passes (repeatable). A sender is known by its certificate, if it needs one, else by its address' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l syslog.tls-cert-file -d 'Certificate for tls://, PEM' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l syslog.tls-key-file -d 'Key of the certificate, PEM' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l syslog.tls-client-ca-file -d 'Who signs the certificates of senders, PEM. With it, a sender needs one' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l web.listen-address -d 'Address to listen on: HOST:PORT, or :PORT for all interfaces (repeatable) [default: :10067, of demo 127.0.0.1:10067]' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l web.config.file -d 'Web configuration file (exporter-toolkit format): TLS, basic auth, headers' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l web.external-url -d 'URL under which clients reach the exporter, if a reverse proxy is between; its path is what redirects begin with' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l web.route-prefix -d 'What all paths begin with [default: the path of --web.external-url]' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l web.telemetry-path -d 'Path of the metrics' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l shard -d 'Which partitions of Kafka\'s topics are read: those whose number modulo N is I; auto takes I from the number at the end of the host name [default: all]' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l tail.watcher -d 'How changes to files are noticed; files are checked regularly either way [default: inotify]' -r -f -a "inotify\t''
linemux\t''
poll\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l coverage -d 'Instead, count the lines of this log that no rule recognises (`-` for standard input)' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l fail-under -d 'With --coverage: fail if fewer than this percentage of the lines are recognised' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l format -d 'Output for a person (text) or a program (json)' -r -f -a "text\t''
json\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l log.level -d 'Log only messages of this level or above' -r -f -a "debug\t''
info\t''
warn\t''
error\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l log.format -d 'Format of log messages' -r -f -a "logfmt\t''
json\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l config.enable-auto-reload -d 'Reload when the configuration file or a rule pack has changed. (The web configuration is read anew in any case.)'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l web.systemd-socket -d 'Use the sockets that systemd passes instead of opening any, but for those that --syslog.listen or a source names'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l web.enable-lifecycle -d 'Answer POST /-/reload and POST /-/forget. They are answered without this flag if the web configuration asks for a password'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l kafka -d 'Also ask the brokers of all topics: access, partitions, settings, and a few records. Prints the commands that mend what is wrong. Nothing else of `check` uses the network'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand replay" -l config.file -d 'Configuration file (YAML). Every setting has a default' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand replay" -l rules.dir -d 'Directory of rule packs, used before the built-in ones (repeatable) [default: /etc/appliance_log_exporter/rules if it exists]' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand replay" -l source -d 'Read the lines as those of this source of --config.file: with its profile, time zone, relays and appliance' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand replay" -s h -l help -d 'Print help'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand explain" -l config.file -d 'Configuration file (YAML). Every setting has a default' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand explain" -l rules.dir -d 'Directory of rule packs, used before the built-in ones (repeatable) [default: /etc/appliance_log_exporter/rules if it exists]' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand explain" -l source -d 'Read the lines as those of this source of --config.file: with its profile, time zone, relays and appliance' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand explain" -l format -d 'Output for a person (text) or a program (json)' -r -f -a "text\t''
json\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand explain" -s h -l help -d 'Print help'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand suggest" -l config.file -d 'Configuration file (YAML). Every setting has a default' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand suggest" -l rules.dir -d 'Directory of rule packs, used before the built-in ones (repeatable) [default: /etc/appliance_log_exporter/rules if it exists]' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand suggest" -l pack -d 'Name of the pack' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand suggest" -l write -d 'Add the drafts to a pack in the first directory of --rules.dir instead of printing them'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand suggest" -s h -l help -d 'Print help'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand demo" -l over -d 'Send the logs over the network instead, each device from an address of its own: udp, tcp, or tls with a certificate that is made for it' -r -f -a "udp\t''
tcp\t''
tls\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand demo" -l config.file -d 'Configuration file (YAML). Every setting has a default' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand demo" -l rules.dir -d 'Directory of rule packs, used before the built-in ones (repeatable) [default: /etc/appliance_log_exporter/rules if it exists]' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand demo" -l web.listen-address -d 'Address to listen on: HOST:PORT, or :PORT for all interfaces (repeatable) [default: :10067, of demo 127.0.0.1:10067]' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand demo" -l web.config.file -d 'Web configuration file (exporter-toolkit format): TLS, basic auth, headers' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand demo" -l web.external-url -d 'URL under which clients reach the exporter, if a reverse proxy is between; its path is what redirects begin with' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand demo" -l web.route-prefix -d 'What all paths begin with [default: the path of --web.external-url]' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand demo" -l web.telemetry-path -d 'Path of the metrics' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand demo" -l log.level -d 'Log only messages of this level or above' -r -f -a "debug\t''
info\t''
warn\t''
error\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand demo" -l log.format -d 'Format of log messages' -r -f -a "logfmt\t''
json\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand demo" -l web.systemd-socket -d 'Use the sockets that systemd passes instead of opening any, but for those that --syslog.listen or a source names'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand demo" -l web.enable-lifecycle -d 'Answer POST /-/reload and POST /-/forget. They are answered without this flag if the web configuration asks for a password'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand demo" -s h -l help -d 'Print help'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand forget" -l url -d 'Where the exporter serves; http only' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand forget" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand completions" -s h -l help -d 'Print help'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand help; and not __fish_seen_subcommand_from check replay explain suggest demo forget completions help" -f -a "check" -d 'Check everything that a start checks, and run the examples of the rules'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand help; and not __fish_seen_subcommand_from check replay explain suggest demo forget completions help" -f -a "replay" -d 'Read logs to their end and print the metrics'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand help; and not __fish_seen_subcommand_from check replay explain suggest demo forget completions help" -f -a "explain" -d 'Explain what lines mean: header, rule, captures, changes to metrics'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand help; and not __fish_seen_subcommand_from check replay explain suggest demo forget completions help" -f -a "suggest" -d 'Draft rules for the lines of a log that no rule recognises'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand help; and not __fish_seen_subcommand_from check replay explain suggest demo forget completions help" -f -a "demo" -d 'Write the logs of a small fleet to a temporary directory, and follow them'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand help; and not __fish_seen_subcommand_from check replay explain suggest demo forget completions help" -f -a "forget" -d 'Make an exporter that runs forget an appliance and all its series'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand help; and not __fish_seen_subcommand_from check replay explain suggest demo forget completions help" -f -a "completions" -d 'Print the completion script of a shell'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand help; and not __fish_seen_subcommand_from check replay explain suggest demo forget completions help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
