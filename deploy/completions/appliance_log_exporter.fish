# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_appliance_log_exporter_global_optspecs
    string join \n config.file= log.file= rules.dir= state.dir= web.listen-address= web.systemd-socket web.config.file= web.enable-lifecycle web.telemetry-path= tail.watcher= log.level= log.format= h/help V/version
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

complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l config.file -d 'Configuration file (YAML); every setting has a default' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l log.file -d 'Files to follow, a path or glob (repeatable); enough without a configuration file' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l rules.dir -d 'Directory of rule packs that come before the built-in ones (repeatable)' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l state.dir -d 'Directory that keeps positions and values over a restart' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l web.listen-address -d 'Address to serve on (repeatable)' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l web.config.file -d 'TLS, passwords and headers, as the exporter toolkit\'s web configuration file says them' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l web.telemetry-path -d 'Path of the metrics' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l tail.watcher -d 'What tells that a file has changed; the truth is looked up in any case' -r -f -a "inotify\t''
linemux\t''
poll\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l log.level -d 'Least severe level of the exporter\'s own log' -r -f -a "debug\t''
info\t''
warn\t''
error\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l log.format -d 'Format of the exporter\'s own log' -r -f -a "logfmt\t''
json\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l web.systemd-socket -d 'Take the sockets that systemd hands over instead of opening any'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -l web.enable-lifecycle -d 'Answer `POST /-/reload` and `POST /-/forget`. They are answered without this flag where the web configuration asks for a password'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -s h -l help -d 'Print help'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -s V -l version -d 'Print version'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -f -a "check" -d 'Check settings, rules and the rules\' examples'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -f -a "replay" -d 'Read logs to their end as fast as possible and print the metrics'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -f -a "explain" -d 'Say for every line what it means: header, rule, captures, updates'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -f -a "suggest" -d 'Print draft rules for the lines of a log that no rule recognises'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -f -a "demo" -d 'Write a realistic stream of sample logs to a temporary directory, and serve it'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l coverage -d 'Instead, list the lines of this log that no rule recognises, folded and counted (`-` for standard input)' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l config.file -d 'Configuration file (YAML); every setting has a default' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l log.file -d 'Files to follow, a path or glob (repeatable); enough without a configuration file' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l rules.dir -d 'Directory of rule packs that come before the built-in ones (repeatable)' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l state.dir -d 'Directory that keeps positions and values over a restart' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l web.listen-address -d 'Address to serve on (repeatable)' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l web.config.file -d 'TLS, passwords and headers, as the exporter toolkit\'s web configuration file says them' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l web.telemetry-path -d 'Path of the metrics' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l tail.watcher -d 'What tells that a file has changed; the truth is looked up in any case' -r -f -a "inotify\t''
linemux\t''
poll\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l log.level -d 'Least severe level of the exporter\'s own log' -r -f -a "debug\t''
info\t''
warn\t''
error\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l log.format -d 'Format of the exporter\'s own log' -r -f -a "logfmt\t''
json\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l web.systemd-socket -d 'Take the sockets that systemd hands over instead of opening any'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -l web.enable-lifecycle -d 'Answer `POST /-/reload` and `POST /-/forget`. They are answered without this flag where the web configuration asks for a password'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand check" -s h -l help -d 'Print help'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand replay" -l config.file -d 'Configuration file (YAML); every setting has a default' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand replay" -l log.file -d 'Files to follow, a path or glob (repeatable); enough without a configuration file' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand replay" -l rules.dir -d 'Directory of rule packs that come before the built-in ones (repeatable)' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand replay" -l state.dir -d 'Directory that keeps positions and values over a restart' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand replay" -l web.listen-address -d 'Address to serve on (repeatable)' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand replay" -l web.config.file -d 'TLS, passwords and headers, as the exporter toolkit\'s web configuration file says them' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand replay" -l web.telemetry-path -d 'Path of the metrics' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand replay" -l tail.watcher -d 'What tells that a file has changed; the truth is looked up in any case' -r -f -a "inotify\t''
linemux\t''
poll\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand replay" -l log.level -d 'Least severe level of the exporter\'s own log' -r -f -a "debug\t''
info\t''
warn\t''
error\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand replay" -l log.format -d 'Format of the exporter\'s own log' -r -f -a "logfmt\t''
json\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand replay" -l web.systemd-socket -d 'Take the sockets that systemd hands over instead of opening any'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand replay" -l web.enable-lifecycle -d 'Answer `POST /-/reload` and `POST /-/forget`. They are answered without this flag where the web configuration asks for a password'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand replay" -s h -l help -d 'Print help'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand explain" -l format -d 'For a person or for a program' -r -f -a "text\t''
json\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand explain" -l config.file -d 'Configuration file (YAML); every setting has a default' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand explain" -l log.file -d 'Files to follow, a path or glob (repeatable); enough without a configuration file' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand explain" -l rules.dir -d 'Directory of rule packs that come before the built-in ones (repeatable)' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand explain" -l state.dir -d 'Directory that keeps positions and values over a restart' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand explain" -l web.listen-address -d 'Address to serve on (repeatable)' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand explain" -l web.config.file -d 'TLS, passwords and headers, as the exporter toolkit\'s web configuration file says them' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand explain" -l web.telemetry-path -d 'Path of the metrics' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand explain" -l tail.watcher -d 'What tells that a file has changed; the truth is looked up in any case' -r -f -a "inotify\t''
linemux\t''
poll\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand explain" -l log.level -d 'Least severe level of the exporter\'s own log' -r -f -a "debug\t''
info\t''
warn\t''
error\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand explain" -l log.format -d 'Format of the exporter\'s own log' -r -f -a "logfmt\t''
json\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand explain" -l web.systemd-socket -d 'Take the sockets that systemd hands over instead of opening any'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand explain" -l web.enable-lifecycle -d 'Answer `POST /-/reload` and `POST /-/forget`. They are answered without this flag where the web configuration asks for a password'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand explain" -s h -l help -d 'Print help'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand suggest" -l config.file -d 'Configuration file (YAML); every setting has a default' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand suggest" -l log.file -d 'Files to follow, a path or glob (repeatable); enough without a configuration file' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand suggest" -l rules.dir -d 'Directory of rule packs that come before the built-in ones (repeatable)' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand suggest" -l state.dir -d 'Directory that keeps positions and values over a restart' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand suggest" -l web.listen-address -d 'Address to serve on (repeatable)' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand suggest" -l web.config.file -d 'TLS, passwords and headers, as the exporter toolkit\'s web configuration file says them' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand suggest" -l web.telemetry-path -d 'Path of the metrics' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand suggest" -l tail.watcher -d 'What tells that a file has changed; the truth is looked up in any case' -r -f -a "inotify\t''
linemux\t''
poll\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand suggest" -l log.level -d 'Least severe level of the exporter\'s own log' -r -f -a "debug\t''
info\t''
warn\t''
error\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand suggest" -l log.format -d 'Format of the exporter\'s own log' -r -f -a "logfmt\t''
json\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand suggest" -l web.systemd-socket -d 'Take the sockets that systemd hands over instead of opening any'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand suggest" -l web.enable-lifecycle -d 'Answer `POST /-/reload` and `POST /-/forget`. They are answered without this flag where the web configuration asks for a password'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand suggest" -s h -l help -d 'Print help'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand demo" -l config.file -d 'Configuration file (YAML); every setting has a default' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand demo" -l log.file -d 'Files to follow, a path or glob (repeatable); enough without a configuration file' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand demo" -l rules.dir -d 'Directory of rule packs that come before the built-in ones (repeatable)' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand demo" -l state.dir -d 'Directory that keeps positions and values over a restart' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand demo" -l web.listen-address -d 'Address to serve on (repeatable)' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand demo" -l web.config.file -d 'TLS, passwords and headers, as the exporter toolkit\'s web configuration file says them' -r -F
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand demo" -l web.telemetry-path -d 'Path of the metrics' -r
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand demo" -l tail.watcher -d 'What tells that a file has changed; the truth is looked up in any case' -r -f -a "inotify\t''
linemux\t''
poll\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand demo" -l log.level -d 'Least severe level of the exporter\'s own log' -r -f -a "debug\t''
info\t''
warn\t''
error\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand demo" -l log.format -d 'Format of the exporter\'s own log' -r -f -a "logfmt\t''
json\t''"
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand demo" -l web.systemd-socket -d 'Take the sockets that systemd hands over instead of opening any'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand demo" -l web.enable-lifecycle -d 'Answer `POST /-/reload` and `POST /-/forget`. They are answered without this flag where the web configuration asks for a password'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand demo" -s h -l help -d 'Print help'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand help; and not __fish_seen_subcommand_from check replay explain suggest demo help" -f -a "check" -d 'Check settings, rules and the rules\' examples'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand help; and not __fish_seen_subcommand_from check replay explain suggest demo help" -f -a "replay" -d 'Read logs to their end as fast as possible and print the metrics'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand help; and not __fish_seen_subcommand_from check replay explain suggest demo help" -f -a "explain" -d 'Say for every line what it means: header, rule, captures, updates'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand help; and not __fish_seen_subcommand_from check replay explain suggest demo help" -f -a "suggest" -d 'Print draft rules for the lines of a log that no rule recognises'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand help; and not __fish_seen_subcommand_from check replay explain suggest demo help" -f -a "demo" -d 'Write a realistic stream of sample logs to a temporary directory, and serve it'
complete -c appliance_log_exporter -n "__fish_appliance_log_exporter_using_subcommand help; and not __fish_seen_subcommand_from check replay explain suggest demo help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
