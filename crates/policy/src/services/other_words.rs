//! Words of other programs' files.

/// Words that are no keys, and what to write instead.
pub(super) const OTHER_WORDS: &[(&str, &str)] = &[
    ("args", "write the arguments into command"),
    ("build", "sameport builds nothing: build before `sameport up`"),
    ("cmd", "write command"),
    ("copies", "write workers"),
    ("cwd", "write directory"),
    (
        "depends-on",
        "services start side by side: give the one that is needed first a ready check, and let the other try again",
    ),
    (
        "depends_on",
        "services start side by side: give the one that is needed first a ready check, and let the other try again",
    ),
    ("environment", "write env"),
    ("image", "sameport starts programs of this machine, no containers"),
    ("instances", "write workers"),
    ("n", "write workers"),
    ("name", "the name of a service is that of its table: [web]"),
    ("no-hold", "write hold = false"),
    ("num_procs", "write workers"),
    ("numprocs", "write workers"),
    ("ports", "write port, listen or expect"),
    ("processes", "write workers"),
    ("program", "write command"),
    ("replicas", "write workers"),
    ("restart", "a service is always restarted; max-restarts limits how often"),
    ("run", "write command"),
    ("scale", "write workers"),
    ("timeout", "write ready-timeout, drain-timeout or grace"),
    ("working-directory", "write directory"),
    ("working_dir", "write directory"),
];
