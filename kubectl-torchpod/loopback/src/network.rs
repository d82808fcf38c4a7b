//! Addresses on loopback: a subnet for each cluster, so that pods keep the ports that their manifest says. All of 127/8
//! answers on Linux.

use std::net::{Ipv4Addr, TcpListener};
use std::process;
use std::sync::atomic::{AtomicU8, Ordering};

#[derive(Clone, Copy, Debug)]
pub(crate) struct Network {
    second: u8,
    third: u8,
    /// Added to every port, where somebody listens on one of them on all addresses.
    shift: u16,
}

impl Network {
    /// How many pods there can be at once.
    pub(crate) const PODS: u8 = 250;

    /// One that no other test uses, for pods that listen on `ports`.
    pub(crate) fn new(ports: &[u16]) -> Network {
        static NEXT: AtomicU8 = AtomicU8::new(1);
        let third = NEXT.fetch_add(1, Ordering::Relaxed);
        // Two runs at once on one machine are kept apart; 127.0 is everybody's.
        let second = u8::try_from(process::id() % 200).unwrap_or(0) + 20;
        let network = Network { second, third, shift: 0 };
        let is_free = |shift: &u16| {
            let bound: Vec<_> = ports.iter().map(|port| TcpListener::bind((network.pod(1), port + shift))).collect();
            bound.iter().all(Result::is_ok)
        };
        let shift = (0..10_000).step_by(1_000).find(is_free);
        Network { shift: shift.expect("some thousand of ports is free"), ..network }
    }

    /// Every address has its turn again after `PODS` others.
    pub(crate) fn pod(self, number: usize) -> Ipv4Addr {
        let number = u8::try_from(number % usize::from(Self::PODS)).expect("fewer than that");
        Ipv4Addr::new(127, self.second, self.third, number + 1)
    }

    /// Where the API server listens.
    pub(crate) fn api(self) -> Ipv4Addr {
        Ipv4Addr::new(127, self.second, self.third, Self::PODS + 1)
    }

    /// Where Services listen.
    pub(crate) fn services(self) -> Ipv4Addr {
        Ipv4Addr::new(127, self.second, self.third, Self::PODS + 2)
    }

    pub(crate) fn port(self, port: u16) -> u16 {
        port + self.shift
    }
}
