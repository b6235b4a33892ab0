# Print an optspec for argparse to handle cmd's options that are independent of any subcommand.
function __fish_kptrace_global_optspecs
    string join \n h/help V/version
end

function __fish_kptrace_needs_command
    # Figure out if the current invocation already has a command.
    set -l cmd (commandline -opc)
    set -e cmd[1]
    argparse -s (__fish_kptrace_global_optspecs) -- $cmd 2>/dev/null
    or return
    if set -q argv[1]
        # Also print the command, so this can be used to figure out what it is.
        echo $argv[1]
        return 1
    end
    return 0
end

function __fish_kptrace_using_subcommand
    set -l cmd (__fish_kptrace_needs_command)
    test -z "$cmd"
    and return 1
    contains -- $cmd[1] $argv
end

complete -c kptrace -n "__fish_kptrace_needs_command" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kptrace -n "__fish_kptrace_needs_command" -s V -l version -d 'Print version'
complete -c kptrace -n "__fish_kptrace_needs_command" -f -a "run" -d 'Start a command and trace it'
complete -c kptrace -n "__fish_kptrace_needs_command" -f -a "attach" -d 'Trace running processes'
complete -c kptrace -n "__fish_kptrace_needs_command" -f -a "list" -d 'List what can be probed: function, address, size, jump or why not'
complete -c kptrace -n "__fish_kptrace_needs_command" -f -a "check" -d 'Say what probes would do, without doing it'
complete -c kptrace -n "__fish_kptrace_needs_command" -f -a "ctl" -d 'List and switch the probes of a process while it is traced'
complete -c kptrace -n "__fish_kptrace_needs_command" -f -a "top" -d 'Watch the probes of a traced process: the hottest first, with keys to sort, filter and switch them'
complete -c kptrace -n "__fish_kptrace_needs_command" -f -a "bt" -d 'Run a command line of bpftrace: its options, its streams'
complete -c kptrace -n "__fish_kptrace_needs_command" -f -a "restore" -d 'Take out of a process what a kptrace that was killed left in it'
complete -c kptrace -n "__fish_kptrace_needs_command" -f -a "completions" -d 'Print a shell\'s completions'
complete -c kptrace -n "__fish_kptrace_needs_command" -f -a "man" -d 'Print the manual page'
complete -c kptrace -n "__fish_kptrace_needs_command" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -s p -l probe -d 'Probe at PROBE: [MODULE:]SYMBOL, a glob, /regex/, an address, FILE.c:LINE, or @FILE; arguments to print follow after a space (may be repeated)' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -s e -d 'A program in bpftrace\'s language (may be repeated: all are one program)' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -s f -d 'A file with such a program (may be repeated)' -r -F
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -l arg -d 'Give the program its next parameter: $1, $2 and so on' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -s x -l exclude -d 'Leave out what matches PATTERN, as in \'mem*\', \'/_unlocked$/\' or \'libc:*\' (may be repeated)' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -l max-active -d 'How many calls of one thread may be under way whose returns are seen; others are counted as missed' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -s o -l output -d 'Write to FILE, replacing it; - is standard output [default: standard error for run, standard output for attach]' -r -F
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -l format -d 'How to print: a line a hit, a JSON object a line, a table at the end, or as calls: a tree, stacks for flame graphs, or trace events for the Perfetto UI [default: text]' -r -f -a "text\t'A line a hit'
json\t'A JSON object a line'
summary\t'A table of hits at the end; of times, too, where returns are probed'
tree\t'The tree of calls, as uftrace shows it; probes the returns, too, as do those that follow'
folded\t'Stacks with their self times at the end, for flamegraph.pl or inferno'
chrome\t'Trace events in JSON, for the Perfetto UI'"
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -s D -l depth -d 'Show the outermost N levels of calls only, as -D of uftrace' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -s t -l min-duration -d 'Show only calls that last TIME or longer, as in 500ns, 10us or 1.5ms, as -t of uftrace' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -s F -l filter -l caller -d 'Show only calls of FUNCTION (a name, a glob, a /regex/) and what they call, as -F of uftrace (may be repeated)' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -l duration -d 'Detach after SECS seconds' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -l max-probes -d 'Refuse to arm more than N probes' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -l pending -d 'What to do with probes that name nothing that is mapped: wait for a library that may come and name them at the end, refuse to start, or wait also when there is nothing else to trace' -r -f -a "warn\t'They wait and are named at the end; if nothing matches, nothing is traced'
error\t'Nothing is traced'
ignore\t'They wait, also when nothing else is left to trace'"
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -l trap -d 'What to do with sites that cannot become jumps: leave them breakpoints (auto), or leave them out (never), or leave them breakpoints only if the target survives a kptrace that is killed (landing)' -r -f -a "auto\t'Such sites stay breakpoints'
never\t'Such sites are left out'
landing\t'Such sites stay breakpoints, and the target must survive a kptrace that is killed'"
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -l trap-limit -d 'Switch a breakpoint off that is hit more than N times a second; 0 is no limit' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -l mem -d 'Most memory to share with the target, with suffix K, M or G' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -l color -d 'Colours: always, never, or as the environment (NO_COLOR, CLICOLOR_FORCE, TERM) and the terminal say' -r -f -a "auto\t'As the environment and the terminal say'
always\t'Always'
never\t'Never'"
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -l unsafe -d 'Let the program run commands and read files: system(), cat()'
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -s c -l count -d 'Only count hits; print a table at the end (the summary object with --format json)'
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -l call -d 'Probe the returns of -p\'s functions too, as %call does; tree, folded and chrome do so'
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -l follow -d 'Trace children, too [default for run]'
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -l no-follow -d 'Do not trace children [default for attach]'
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -l no-opt -d 'Leave every probe a breakpoint'
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -s q -l quiet -d 'Say only what went wrong'
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -s v -l verbose -d 'Say more'
complete -c kptrace -n "__fish_kptrace_using_subcommand run" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -s p -l probe -d 'Probe at PROBE: [MODULE:]SYMBOL, a glob, /regex/, an address, FILE.c:LINE, or @FILE; arguments to print follow after a space (may be repeated)' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -s e -d 'A program in bpftrace\'s language (may be repeated: all are one program)' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -s f -d 'A file with such a program (may be repeated)' -r -F
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -l arg -d 'Give the program its next parameter: $1, $2 and so on' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -s x -l exclude -d 'Leave out what matches PATTERN, as in \'mem*\', \'/_unlocked$/\' or \'libc:*\' (may be repeated)' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -l max-active -d 'How many calls of one thread may be under way whose returns are seen; others are counted as missed' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -s o -l output -d 'Write to FILE, replacing it; - is standard output [default: standard error for run, standard output for attach]' -r -F
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -l format -d 'How to print: a line a hit, a JSON object a line, a table at the end, or as calls: a tree, stacks for flame graphs, or trace events for the Perfetto UI [default: text]' -r -f -a "text\t'A line a hit'
json\t'A JSON object a line'
summary\t'A table of hits at the end; of times, too, where returns are probed'
tree\t'The tree of calls, as uftrace shows it; probes the returns, too, as do those that follow'
folded\t'Stacks with their self times at the end, for flamegraph.pl or inferno'
chrome\t'Trace events in JSON, for the Perfetto UI'"
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -s D -l depth -d 'Show the outermost N levels of calls only, as -D of uftrace' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -s t -l min-duration -d 'Show only calls that last TIME or longer, as in 500ns, 10us or 1.5ms, as -t of uftrace' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -s F -l filter -l caller -d 'Show only calls of FUNCTION (a name, a glob, a /regex/) and what they call, as -F of uftrace (may be repeated)' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -l duration -d 'Detach after SECS seconds' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -l max-probes -d 'Refuse to arm more than N probes' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -l pending -d 'What to do with probes that name nothing that is mapped: wait for a library that may come and name them at the end, refuse to start, or wait also when there is nothing else to trace' -r -f -a "warn\t'They wait and are named at the end; if nothing matches, nothing is traced'
error\t'Nothing is traced'
ignore\t'They wait, also when nothing else is left to trace'"
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -l trap -d 'What to do with sites that cannot become jumps: leave them breakpoints (auto), or leave them out (never), or leave them breakpoints only if the target survives a kptrace that is killed (landing)' -r -f -a "auto\t'Such sites stay breakpoints'
never\t'Such sites are left out'
landing\t'Such sites stay breakpoints, and the target must survive a kptrace that is killed'"
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -l trap-limit -d 'Switch a breakpoint off that is hit more than N times a second; 0 is no limit' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -l mem -d 'Most memory to share with the target, with suffix K, M or G' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -l color -d 'Colours: always, never, or as the environment (NO_COLOR, CLICOLOR_FORCE, TERM) and the terminal say' -r -f -a "auto\t'As the environment and the terminal say'
always\t'Always'
never\t'Never'"
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -l name -d 'Trace every process of this name that runs: the command name or that of the executable, a glob or a /regex/ (may be repeated); those that cannot be traced are named and left out' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -l unsafe -d 'Let the program run commands and read files: system(), cat()'
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -s c -l count -d 'Only count hits; print a table at the end (the summary object with --format json)'
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -l call -d 'Probe the returns of -p\'s functions too, as %call does; tree, folded and chrome do so'
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -l follow -d 'Trace children, too [default for run]'
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -l no-follow -d 'Do not trace children [default for attach]'
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -l no-opt -d 'Leave every probe a breakpoint'
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -s q -l quiet -d 'Say only what went wrong'
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -s v -l verbose -d 'Say more'
complete -c kptrace -n "__fish_kptrace_using_subcommand attach" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kptrace -n "__fish_kptrace_using_subcommand list" -l color -d 'Colours: always, never, or as the environment (NO_COLOR, CLICOLOR_FORCE, TERM) and the terminal say' -r -f -a "auto\t'As the environment and the terminal say'
always\t'Always'
never\t'Never'"
complete -c kptrace -n "__fish_kptrace_using_subcommand list" -l json -d 'Print JSON, one object a line'
complete -c kptrace -n "__fish_kptrace_using_subcommand list" -s q -l quiet -d 'Say only what went wrong'
complete -c kptrace -n "__fish_kptrace_using_subcommand list" -s v -l verbose -d 'Say more'
complete -c kptrace -n "__fish_kptrace_using_subcommand list" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kptrace -n "__fish_kptrace_using_subcommand check" -s e -d 'A program in bpftrace\'s language (may be repeated: all are one program)' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand check" -s f -d 'A file with such a program (may be repeated)' -r -F
complete -c kptrace -n "__fish_kptrace_using_subcommand check" -l arg -d 'Give the program its next parameter: $1, $2 and so on' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand check" -l dump -d 'Print what the program was compiled to' -r -f -a "ast\t'The program, every name resolved and every type written'
ir\t'What each block does, for no machine in particular'
code\t'The machine code of each block'"
complete -c kptrace -n "__fish_kptrace_using_subcommand check" -l color -d 'Colours: always, never, or as the environment (NO_COLOR, CLICOLOR_FORCE, TERM) and the terminal say' -r -f -a "auto\t'As the environment and the terminal say'
always\t'Always'
never\t'Never'"
complete -c kptrace -n "__fish_kptrace_using_subcommand check" -l json -d 'Print JSON, one object a line'
complete -c kptrace -n "__fish_kptrace_using_subcommand check" -l unsafe -d 'Let the program run commands and read files: system(), cat()'
complete -c kptrace -n "__fish_kptrace_using_subcommand check" -s q -l quiet -d 'Say only what went wrong'
complete -c kptrace -n "__fish_kptrace_using_subcommand check" -s v -l verbose -d 'Say more'
complete -c kptrace -n "__fish_kptrace_using_subcommand check" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and not __fish_seen_subcommand_from list on off opt enable disable add remove detach help" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and not __fish_seen_subcommand_from list on off opt enable disable add remove detach help" -a "list" -d 'List the probes: address, kind (k at the entry, r at the return), symbol, module, state, number, hits, calls where they are recorded, hits that were missed and why, and why it is not a jump'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and not __fish_seen_subcommand_from list on off opt enable disable add remove detach help" -a "on" -d 'Arm everything that is enabled again; so does SIGUSR2 to kptrace'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and not __fish_seen_subcommand_from list on off opt enable disable add remove detach help" -a "off" -d 'Give all text its original bytes, verify that, and keep what was asked for; so does SIGUSR1'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and not __fish_seen_subcommand_from list on off opt enable disable add remove detach help" -a "opt" -d 'Allow jumps, or make all of them breakpoints'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and not __fish_seen_subcommand_from list on off opt enable disable add remove detach help" -a "enable" -d 'Switch probes on'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and not __fish_seen_subcommand_from list on off opt enable disable add remove detach help" -a "disable" -d 'Switch probes off: they cost nothing any more, and keep their counts'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and not __fish_seen_subcommand_from list on off opt enable disable add remove detach help" -a "add" -d 'Add a probe, as after -p of run and attach'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and not __fish_seen_subcommand_from list on off opt enable disable add remove detach help" -a "remove" -d 'Take probes away'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and not __fish_seen_subcommand_from list on off opt enable disable add remove detach help" -a "detach" -d 'End tracing, as an interrupt of kptrace does'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and not __fish_seen_subcommand_from list on off opt enable disable add remove detach help" -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and __fish_seen_subcommand_from list" -l json -d 'Print JSON, one object a line'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and __fish_seen_subcommand_from list" -s h -l help -d 'Print help'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and __fish_seen_subcommand_from on" -s h -l help -d 'Print help'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and __fish_seen_subcommand_from off" -s h -l help -d 'Print help'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and __fish_seen_subcommand_from opt" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and __fish_seen_subcommand_from enable" -s h -l help -d 'Print help'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and __fish_seen_subcommand_from disable" -s h -l help -d 'Print help'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and __fish_seen_subcommand_from add" -s h -l help -d 'Print help'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and __fish_seen_subcommand_from remove" -s h -l help -d 'Print help'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and __fish_seen_subcommand_from detach" -s h -l help -d 'Print help'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "list" -d 'List the probes: address, kind (k at the entry, r at the return), symbol, module, state, number, hits, calls where they are recorded, hits that were missed and why, and why it is not a jump'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "on" -d 'Arm everything that is enabled again; so does SIGUSR2 to kptrace'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "off" -d 'Give all text its original bytes, verify that, and keep what was asked for; so does SIGUSR1'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "opt" -d 'Allow jumps, or make all of them breakpoints'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "enable" -d 'Switch probes on'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "disable" -d 'Switch probes off: they cost nothing any more, and keep their counts'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "add" -d 'Add a probe, as after -p of run and attach'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "remove" -d 'Take probes away'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "detach" -d 'End tracing, as an interrupt of kptrace does'
complete -c kptrace -n "__fish_kptrace_using_subcommand ctl; and __fish_seen_subcommand_from help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c kptrace -n "__fish_kptrace_using_subcommand top" -s d -l interval -d 'Look every SECS seconds' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand top" -l color -d 'Colours: always, never, or as the environment (NO_COLOR, CLICOLOR_FORCE, TERM) says' -r -f -a "auto\t'As the environment and the terminal say'
always\t'Always'
never\t'Never'"
complete -c kptrace -n "__fish_kptrace_using_subcommand top" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kptrace -n "__fish_kptrace_using_subcommand bt" -s e -d 'Run PROGRAM' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand bt" -s c -d 'Run CMD, split into words as a shell does, and trace it' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand bt" -s p -d 'Trace this process' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand bt" -s f -d 'How to print' -r -f -a "text\t'As people read it'
json\t'A JSON object a line'"
complete -c kptrace -n "__fish_kptrace_using_subcommand bt" -s o -d 'Write to FILE' -r -F
complete -c kptrace -n "__fish_kptrace_using_subcommand bt" -s B -d 'Taken and not needed: output comes as it is made' -r -f -a "full\t''
line\t''
none\t''"
complete -c kptrace -n "__fish_kptrace_using_subcommand bt" -s l -d 'Refused, with what to type instead' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand bt" -s I -l include -d 'Refused, with what to do instead' -r
complete -c kptrace -n "__fish_kptrace_using_subcommand bt" -l unsafe -d 'Let the program run commands and read files: system(), cat()'
complete -c kptrace -n "__fish_kptrace_using_subcommand bt" -s q -d 'Do not say how many probes are attached'
complete -c kptrace -n "__fish_kptrace_using_subcommand bt" -s v -d 'Say more: what was armed and what was not'
complete -c kptrace -n "__fish_kptrace_using_subcommand bt" -s d -d 'Print what the program means and what it was compiled to, and do not run it'
complete -c kptrace -n "__fish_kptrace_using_subcommand bt" -l no-warnings -d 'Do not say what is odd about the program'
complete -c kptrace -n "__fish_kptrace_using_subcommand bt" -s k -d 'What belongs to the kernel; taken and not needed'
complete -c kptrace -n "__fish_kptrace_using_subcommand bt" -l usdt-file-activation -d 'Taken and not needed'
complete -c kptrace -n "__fish_kptrace_using_subcommand bt" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kptrace -n "__fish_kptrace_using_subcommand bt" -s V -l version -d 'Print version'
complete -c kptrace -n "__fish_kptrace_using_subcommand restore" -s q -l quiet -d 'Say only what went wrong'
complete -c kptrace -n "__fish_kptrace_using_subcommand restore" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kptrace -n "__fish_kptrace_using_subcommand completions" -s h -l help -d 'Print help (see more with \'--help\')'
complete -c kptrace -n "__fish_kptrace_using_subcommand man" -s h -l help -d 'Print help'
complete -c kptrace -n "__fish_kptrace_using_subcommand help; and not __fish_seen_subcommand_from run attach list check ctl top bt restore completions man help" -f -a "run" -d 'Start a command and trace it'
complete -c kptrace -n "__fish_kptrace_using_subcommand help; and not __fish_seen_subcommand_from run attach list check ctl top bt restore completions man help" -f -a "attach" -d 'Trace running processes'
complete -c kptrace -n "__fish_kptrace_using_subcommand help; and not __fish_seen_subcommand_from run attach list check ctl top bt restore completions man help" -f -a "list" -d 'List what can be probed: function, address, size, jump or why not'
complete -c kptrace -n "__fish_kptrace_using_subcommand help; and not __fish_seen_subcommand_from run attach list check ctl top bt restore completions man help" -f -a "check" -d 'Say what probes would do, without doing it'
complete -c kptrace -n "__fish_kptrace_using_subcommand help; and not __fish_seen_subcommand_from run attach list check ctl top bt restore completions man help" -f -a "ctl" -d 'List and switch the probes of a process while it is traced'
complete -c kptrace -n "__fish_kptrace_using_subcommand help; and not __fish_seen_subcommand_from run attach list check ctl top bt restore completions man help" -f -a "top" -d 'Watch the probes of a traced process: the hottest first, with keys to sort, filter and switch them'
complete -c kptrace -n "__fish_kptrace_using_subcommand help; and not __fish_seen_subcommand_from run attach list check ctl top bt restore completions man help" -f -a "bt" -d 'Run a command line of bpftrace: its options, its streams'
complete -c kptrace -n "__fish_kptrace_using_subcommand help; and not __fish_seen_subcommand_from run attach list check ctl top bt restore completions man help" -f -a "restore" -d 'Take out of a process what a kptrace that was killed left in it'
complete -c kptrace -n "__fish_kptrace_using_subcommand help; and not __fish_seen_subcommand_from run attach list check ctl top bt restore completions man help" -f -a "completions" -d 'Print a shell\'s completions'
complete -c kptrace -n "__fish_kptrace_using_subcommand help; and not __fish_seen_subcommand_from run attach list check ctl top bt restore completions man help" -f -a "man" -d 'Print the manual page'
complete -c kptrace -n "__fish_kptrace_using_subcommand help; and not __fish_seen_subcommand_from run attach list check ctl top bt restore completions man help" -f -a "help" -d 'Print this message or the help of the given subcommand(s)'
complete -c kptrace -n "__fish_kptrace_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "list" -d 'List the probes: address, kind (k at the entry, r at the return), symbol, module, state, number, hits, calls where they are recorded, hits that were missed and why, and why it is not a jump'
complete -c kptrace -n "__fish_kptrace_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "on" -d 'Arm everything that is enabled again; so does SIGUSR2 to kptrace'
complete -c kptrace -n "__fish_kptrace_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "off" -d 'Give all text its original bytes, verify that, and keep what was asked for; so does SIGUSR1'
complete -c kptrace -n "__fish_kptrace_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "opt" -d 'Allow jumps, or make all of them breakpoints'
complete -c kptrace -n "__fish_kptrace_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "enable" -d 'Switch probes on'
complete -c kptrace -n "__fish_kptrace_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "disable" -d 'Switch probes off: they cost nothing any more, and keep their counts'
complete -c kptrace -n "__fish_kptrace_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "add" -d 'Add a probe, as after -p of run and attach'
complete -c kptrace -n "__fish_kptrace_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "remove" -d 'Take probes away'
complete -c kptrace -n "__fish_kptrace_using_subcommand help; and __fish_seen_subcommand_from ctl" -f -a "detach" -d 'End tracing, as an interrupt of kptrace does'
