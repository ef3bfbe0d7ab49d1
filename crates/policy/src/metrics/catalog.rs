//! Every metric: its name, type, labels, and the source of its value. docs/metrics.md has the same table.

/// The type of a metric, as Prometheus knows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricKind {
    /// A number that only grows, and begins again at 0.
    Counter,
    /// A number at one moment.
    Gauge,
    /// Durations, counted in buckets.
    Histogram,
}

impl MetricKind {
    /// The word of the text format.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// A metric.
#[derive(Debug, PartialEq, Eq)]
pub struct MetricDefinition {
    /// The name of its samples; that of a counter ends in `_total`. A histogram adds `_bucket`, `_sum`, `_count`.
    pub name: &'static str,
    /// Its type.
    pub kind: MetricKind,
    /// The names of its labels, in order.
    pub labels: &'static [&'static str],
    /// What it counts: a sentence without a full stop, which the text format adds.
    pub help: &'static str,
    /// Where the value comes from.
    pub source: MetricSource,
}

/// Where a value comes from, and what it costs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum MetricSource {
    /// The exporter itself.
    Exporter,
    /// The status of a supervisor.
    Supervisor,
    /// `/proc/PID/stat` of a worker.
    Process,
    /// The kernel's lists of sockets: netlink `sock_diag(7)`.
    Sockets,
    /// The maps of the eBPF tier, read directly with the right to, else from a supervisor.
    Bpf,
    /// The last look of `audit`, in the background.
    Audit,
}

impl MetricSource {
    /// The word of the documentation.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Exporter => "exporter",
            Self::Supervisor => "supervisor",
            Self::Process => "process",
            Self::Sockets => "sockets",
            Self::Bpf => "bpf",
            Self::Audit => "audit",
        }
    }
}

macro_rules! metrics {
    ($($name:ident = $text:literal, $kind:ident, $source:ident, [$($label:literal),*], $help:literal;)+) => {
        $(
            #[doc = $help]
            pub static $name: MetricDefinition = MetricDefinition {
                name: $text,
                kind: MetricKind::$kind,
                labels: &[$($label),*],
                help: $help,
                source: MetricSource::$source,
            };
        )+
        /// Every metric, in the order of the output.
        pub static METRICS: &[&MetricDefinition] = &[$(&$name),+];
    };
}

metrics! {
    BUILD_INFO = "sameport_build_info", Gauge, Exporter, ["version"],
        "The version of the exporter; the value is 1";
    SCRAPE_DURATION = "sameport_scrape_duration_seconds", Gauge, Exporter, [],
        "Seconds that this collection took";
    SCRAPE_ERRORS = "sameport_scrape_errors_total", Counter, Exporter, ["source"],
        "Collections in which a source gave nothing";
    LEFT_OUT = "sameport_scrape_addresses_left_out", Gauge, Exporter, [],
        "Addresses beyond the limit of 5000, which have no metrics";

    RUN_UP = "sameport_run_up", Gauge, Supervisor, ["run", "user"],
        "Whether the supervisor of the run answers within 1 s";
    RUN_INFO = "sameport_run_info", Gauge, Supervisor, ["run", "user", "version", "via"],
        "The version of the supervisor and its interposer; the value is 1";
    RUN_START = "sameport_run_start_time_seconds", Gauge, Supervisor, ["run", "user"],
        "Start of the run in seconds since 1970";
    RUN_LEAVING = "sameport_run_leaving", Gauge, Supervisor, ["run", "user"],
        "Whether the run is announced as leaving, or stops";
    RUN_WORKERS = "sameport_run_workers", Gauge, Supervisor, ["run", "user"],
        "Configured number of workers";
    RUN_READY = "sameport_run_workers_ready", Gauge, Supervisor, ["run", "user"],
        "Number of workers that are ready, without canaries";
    RUN_STARTS = "sameport_run_worker_starts_total", Counter, Supervisor, ["run", "user"],
        "Processes that were started as workers";
    RUN_ENDS = "sameport_run_worker_ends_total", Counter, Supervisor,
        ["run", "user", "code", "signal", "requested"],
        "Ends of workers by exit code or signal, and whether the supervisor had asked for the end";
    RUN_REFUSED = "sameport_run_refused_joins_total", Counter, Supervisor, ["run", "user"],
        "Binds and listens of workers that were refused";
    RUN_CUT = "sameport_run_cut_connections_total", Counter, Supervisor, ["run", "user"],
        "Connections that the end of a drained worker cut";
    RUN_CHANGES = "sameport_run_change_duration_seconds", Histogram, Supervisor, ["run", "user", "change"],
        "Seconds that changes of the run took, or after a crash, until the replacement was ready";
    RUN_FAILED = "sameport_run_failed_changes_total", Counter, Supervisor, ["run", "user", "change"],
        "Changes of the run that failed";

    WORKER_STATE = "sameport_worker_state", Gauge, Supervisor, ["run", "user", "worker", "state"],
        "Number of processes of the worker that are in this state; the sum is 2 during a replacement";
    WORKER_RESTARTS = "sameport_worker_restarts_total", Counter, Supervisor, ["run", "user", "worker"],
        "Starts of the worker after a crash";
    WORKER_START = "sameport_worker_start_time_seconds", Gauge, Process, ["run", "user", "worker"],
        "Start of the newest process of the worker in seconds since 1970";
    WORKER_CONNECTIONS = "sameport_worker_connections", Gauge, Supervisor, ["run", "user", "worker"],
        "Open connections of the worker's processes";

    ADDRESS_MEMBERS = "sameport_address_members", Gauge, Sockets, ["protocol", "address"],
        "Number of sockets that share the address";
    ADDRESS_RUN = "sameport_address_run_members", Gauge, Supervisor, ["protocol", "address", "run", "user"],
        "Number of sockets on the address that belong to the run";
    ADDRESS_CONNECTIONS = "sameport_address_connections", Gauge, Sockets, ["protocol", "address"],
        "Accepted connections of the address that are open";
    ADDRESS_QUEUE = "sameport_address_accept_queue", Gauge, Sockets, ["protocol", "address"],
        "Connections that wait for accept";
    ADDRESS_LIMIT = "sameport_address_accept_queue_limit", Gauge, Sockets, ["protocol", "address"],
        "Sum of the limits of the accept queues";
    ADDRESS_BYTES = "sameport_address_receive_queue_bytes", Gauge, Sockets, ["protocol", "address"],
        "Bytes of datagrams that wait";
    ADDRESS_DROPS = "sameport_address_drops_total", Counter, Sockets, ["protocol", "address"],
        "Connections or datagrams that the kernel dropped at sockets of the address";

    MEMBER_CHOICES = "sameport_member_choices_total", Counter, Bpf,
        ["protocol", "port", "run", "worker", "program"],
        "New connections that the eBPF program of the port sent to the member; absent without such a program";
    MEMBER_CONNECTIONS = "sameport_member_connections_total", Counter, Bpf,
        ["protocol", "port", "run", "worker", "program"],
        "Connections of the member that were established, counted by eBPF; absent without it, and without the right to read its maps";

    AUDIT_FINDINGS = "sameport_audit_findings", Gauge, Audit, ["severity", "kind"],
        "Findings of the last audit";
    AUDIT_TIME = "sameport_audit_last_run_timestamp_seconds", Gauge, Audit, [],
        "End of the last audit in seconds since 1970";
    AUDIT_DURATION = "sameport_audit_duration_seconds", Gauge, Audit, [],
        "Seconds that the last audit took";
}
