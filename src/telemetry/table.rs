//! Every metric there is: its name, type, labels and meaning. `/metrics` says so, and `docs/metrics.md` is written from
//! here (`make metrics`).

use metrics::{describe_counter, describe_gauge, describe_histogram};

/// A metric as its users know it.
#[derive(Debug)]
pub struct Metric {
    /// Whose it is, which is a heading in `docs/metrics.md`.
    pub section: &'static str,
    pub name: &'static str,
    pub kind: Kind,
    /// In the order in which they are written. A histogram's buckets have `le` besides.
    pub labels: &'static [&'static str],
    pub meaning: &'static str,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Counter,
    Gauge,
    Histogram,
}

impl Kind {
    /// As a `# TYPE` line has it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Counter => "counter",
            Self::Gauge => "gauge",
            Self::Histogram => "histogram",
        }
    }
}

/// Makes a constant of each name, and the table of all.
macro_rules! table {
    ($($section:literal { $($constant:ident = $kind:ident $name:literal [$($label:ident),*] $meaning:literal)* })*) => {
        $($(pub(super) const $constant: &str = $name;)*)*

        pub const METRICS: &[Metric] = &[$($(Metric {
            section: $section,
            name: $name,
            kind: Kind::$kind,
            labels: &[$(stringify!($label)),*],
            meaning: $meaning,
        },)*)*];
    };
}

table! {
    "The server" {
        BUILD_INFO = Gauge "torchpod_build_info" [version, abi, engine, library]
            "What runs: the server's version, the engine ABI, the engine and its library; always 1"
        PHASE = Gauge "torchpod_phase" [phase]
            "1 for the phase that the server is in, 0 for the others"
        FAULT = Gauge "torchpod_fault" [fault]
            "1 for each fault that the server has now, 0 for the others: hung, runtime_stalled, worker_lost, device_lost"
        TRANSITIONS = Counter "torchpod_transitions_total" [subject, to]
            "Changes of the phase, of a fault (raised, clear), of models (some, none) or of a dependency (up, down)"
        PROBE_ANSWERS = Counter "torchpod_probe_answers_total" [probe, verdict]
            "Answers to the startup, liveness and readiness probe that pass or fail, over HTTP and gRPC; a gRPC Watch is no probe"
        IN_FLIGHT = Gauge "torchpod_in_flight_requests" []
            "Requests accepted and not yet answered"
        REQUEST_MEMORY = Gauge "torchpod_request_memory_bytes" []
            "Bytes that bodies and tensors of requests hold, of --request-memory"
        CONNECTIONS = Gauge "torchpod_connections" [listener]
            "Open connections of a listener: http, grpc or probe"
        DROPPED_LINES = Counter "torchpod_log_lines_dropped_total" []
            "Log lines that nobody read in time: logging never waits"
    }
    "Requests" {
        REQUESTS = Counter "torchpod_requests_total" [model, version, protocol, outcome]
            "Requests to a model by protocol (predict, v1, v2, grpc) and by how they ended: ok, client_error, refused (503), deadline (504), server_error, left (the client did)"
        REQUEST_SECONDS = Histogram "torchpod_request_duration_seconds" [model, version]
            "From a request's head to its answer, before that is compressed, in seconds"
        ROWS = Counter "torchpod_rows_total" [model, version, protocol, outcome]
            "Rows of these requests, as far as they were read"
        PARSE_SECONDS = Histogram "torchpod_parse_duration_seconds" [model, version]
            "From the last byte of a request's body to its tensors, in seconds"
        QUEUE_SECONDS = Histogram "torchpod_queue_duration_seconds" [model, version]
            "Waiting for a batch, in seconds"
        FORMAT_SECONDS = Histogram "torchpod_format_duration_seconds" [model, version]
            "From a request's outputs to its answer, in seconds"
        QUEUE_REQUESTS = Gauge "torchpod_queue_requests" [model, version]
            "Requests waiting for a batch"
        QUEUE_ROWS = Gauge "torchpod_queue_rows" [model, version]
            "Rows of the requests waiting for a batch"
        QUEUE_BYTES = Gauge "torchpod_queue_bytes" [model, version]
            "Bytes of the tensors of the requests waiting for a batch"
    }
    "Batches" {
        COMPUTE_SECONDS = Histogram "torchpod_compute_duration_seconds" [model, version]
            "Gathering and computing one batch, in seconds"
        BATCH_ROWS = Histogram "torchpod_batch_rows" [model, version]
            "Rows per batch; a request that is computed alone and whole is one"
        BATCH_CUTS = Counter "torchpod_batch_cuts_total" [model, version, reason]
            "Batches, by why they waited for no more: full (or nothing may share them), idle (a worker took all there was), delay (max_delay was over), deadline (one would have been missed), shape (others waited that cannot share it)"
        BATCH_MAX_ROWS = Gauge "torchpod_batch_max_rows" [model, version]
            "The largest batch that is cut, in rows: max_size, or less once the device had no memory for it; nothing bounds a request that is computed whole"
        OLDEST_BATCH = Gauge "torchpod_oldest_batch_seconds" []
            "How long the oldest batch has been running, in seconds"
        WORKER_RESTARTS = Counter "torchpod_worker_restarts_total" [model, version]
            "Workers that panicked and were replaced"
    }
    "Models" {
        MODEL_INFO = Gauge "torchpod_model_info" [model, version, digest, device]
            "The versions that serve, with their files' digests and their devices; always 1"
        MODEL_STATE = Gauge "torchpod_model_state" [model, version, state]
            "1 for each version that is known, with its state: ready, loading, unloading, unavailable"
        LOAD_SECONDS = Gauge "torchpod_load_seconds" [model, version]
            "What reading, proving and warming a version took, in seconds"
        LOADS = Counter "torchpod_loads_total" [outcome]
            "Loads ordered while serving by how they ended: ok, bad_folder, failed, timed_out, overtaken (by an unload or a drain)"
        STUCK_LOADS = Gauge "torchpod_stuck_loads" []
            "Loads that were given up and whose threads have not come back"
    }
    "Dependencies" {
        DEPENDENCY_UP = Gauge "torchpod_dependency_up" [dependency, required]
            "1 for a dependency that is up, 0 for one that is down or was never checked"
        DEPENDENCY_CHECKS = Counter "torchpod_dependency_checks_total" [dependency, outcome]
            "Checks of a dependency by how they ended: ok or failed"
        DEPENDENCY_LATENCY = Gauge "torchpod_dependency_latency_seconds" [dependency]
            "What the last check of a dependency took, in seconds"
        DEPENDENCY_AGE = Gauge "torchpod_dependency_check_age_seconds" [dependency]
            "How long ago the last check of a dependency ended, in seconds"
    }
    "The process" {
        PROCESS_CPU = Counter "process_cpu_seconds_total" []
            "CPU time that the process has taken, of users and of the system, in seconds"
        PROCESS_RESIDENT = Gauge "process_resident_memory_bytes" []
            "Memory that the process has in RAM, libtorch's and the models' included, in bytes"
        PROCESS_VIRTUAL = Gauge "process_virtual_memory_bytes" []
            "Addresses that the process has reserved, in bytes: far more than it uses"
        PROCESS_OPEN_FDS = Gauge "process_open_fds" []
            "Open files and sockets"
        PROCESS_MAX_FDS = Gauge "process_max_fds" []
            "Files and sockets that may be open"
        PROCESS_THREADS = Gauge "process_threads" []
            "Threads: libtorch's, the workers' and the runtimes'"
        PROCESS_START = Gauge "process_start_time_seconds" []
            "When the process started, in seconds since 1970"
        CPU_THROTTLED = Counter "torchpod_cpu_throttled_seconds_total" []
            "How long threads were held back by the container's CPU limit, in seconds; where there is a cgroup of version 2"
        MEMORY_LIMIT = Gauge "torchpod_memory_limit_bytes" []
            "What the container may use before it is killed, in bytes; where a cgroup of version 2 has a limit"
    }
    "The async runtimes" {
        RUNTIME_WORKERS = Gauge "torchpod_runtime_workers" [runtime]
            "Threads that serve connections (main, --io-threads) or the probe listener (probes)"
        RUNTIME_TASKS = Gauge "torchpod_runtime_alive_tasks" [runtime]
            "Tasks that have not ended: one for each connection, and some more"
        RUNTIME_QUEUE = Gauge "torchpod_runtime_global_queue_depth" [runtime]
            "Tasks that no thread has taken yet; more than a few for long means that the threads are too busy"
        RUNTIME_BUSY = Counter "torchpod_runtime_busy_seconds_total" [runtime]
            "How long its threads were not idle, in seconds of all together: as much as there are workers a second is all that they can. A thread that is stuck adds its time once it is free"
    }
    "GPUs" {
        GPU_INFO = Gauge "torchpod_gpu_info" [gpu, uuid, name]
            "The GPUs that this process can see, by their numbers as in cuda:0; always 1"
        GPU_UTILIZATION = Gauge "torchpod_gpu_utilization_ratio" [gpu]
            "How much of the last moment the GPU was computing, for anybody: 0 to 1"
        GPU_MEMORY_USED = Gauge "torchpod_gpu_memory_used_bytes" [gpu]
            "Memory of the GPU that is in use, by anybody, in bytes"
        GPU_MEMORY_TOTAL = Gauge "torchpod_gpu_memory_total_bytes" [gpu]
            "Memory that the GPU has, in bytes"
        GPU_TEMPERATURE = Gauge "torchpod_gpu_temperature_celsius" [gpu]
            "The GPU's temperature, in degrees Celsius"
        GPU_POWER = Gauge "torchpod_gpu_power_watts" [gpu]
            "What the GPU and its memory draw, in watts"
    }
}

/// Tells the current recorder what the metrics mean.
pub(super) fn describe() {
    for Metric { name, kind, meaning, .. } in METRICS {
        match kind {
            Kind::Counter => describe_counter!(*name, *meaning),
            Kind::Gauge => describe_gauge!(*name, *meaning),
            Kind::Histogram => describe_histogram!(*name, *meaning),
        }
    }
}

#[cfg(test)]
mod tests;
