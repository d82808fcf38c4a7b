//! What can go wrong with a server that serves. Pure: who notices is `health::watchdog` and `batch::worker`.

use std::fmt;

/// Something that makes a serving process not worth keeping, or not for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Fault {
    /// A sticky device error: every later call fails. Latched.
    DeviceLost,
    /// A worker died more often than its restart budget. Latched.
    WorkerLost,
    /// The async runtime has stopped answering its heartbeat. Clears when it answers again.
    RuntimeStalled,
    /// A batch runs longer than the stall limit. Clears if it returns: busy is not hung.
    Hung,
}

impl Fault {
    /// Every fault, the worst first.
    pub const ALL: [Self; 4] = [Self::DeviceLost, Self::WorkerLost, Self::RuntimeStalled, Self::Hung];

    /// Whether only another process can cure it.
    pub fn is_latched(self) -> bool {
        matches!(self, Self::DeviceLost | Self::WorkerLost)
    }

    pub fn name(self) -> &'static str {
        match self {
            Self::DeviceLost => "device_lost",
            Self::WorkerLost => "worker_lost",
            Self::RuntimeStalled => "runtime_stalled",
            Self::Hung => "hung",
        }
    }

    fn bit(self) -> u8 {
        1 << self as u8
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// A set of faults.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Faults(u8);

impl Faults {
    pub fn contains(self, fault: Fault) -> bool {
        self.0 & fault.bit() != 0
    }

    #[must_use]
    pub fn with(self, fault: Fault) -> Self {
        Self(self.0 | fault.bit())
    }

    #[must_use]
    pub fn without(self, fault: Fault) -> Self {
        Self(self.0 & !fault.bit())
    }

    /// Each of them, the worst first.
    pub fn iter(self) -> impl Iterator<Item = Fault> {
        Fault::ALL.into_iter().filter(move |fault| self.contains(*fault))
    }

    pub fn worst(self) -> Option<Fault> {
        self.iter().next()
    }

    /// The worst that only another process can cure.
    pub fn latched(self) -> Option<Fault> {
        self.iter().find(|fault| fault.is_latched())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_set_holds_what_was_put_in_and_names_the_worst() {
        let mut faults = Faults::default();
        assert_eq!((faults.worst(), faults.latched()), (None, None));
        faults = faults.with(Fault::Hung);
        assert_eq!((faults.worst(), faults.latched()), (Some(Fault::Hung), None));
        faults = faults.with(Fault::WorkerLost);
        assert_eq!((faults.worst(), faults.latched()), (Some(Fault::WorkerLost), Some(Fault::WorkerLost)));
        assert_eq!(faults.without(Fault::WorkerLost).worst(), Some(Fault::Hung));
        assert!(!faults.without(Fault::Hung).contains(Fault::Hung));
    }
}
