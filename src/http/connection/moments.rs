//! When a connection's time is up, as pure functions of what has happened on it: tested as tables, and apart from the
//! clock, the locks and the streams.

use std::time::Duration;

use tokio::time::Instant;

/// How long a connection that is to be closed is left alone first: a request may be on its way. Whoever asks at least this
/// often on a connection hears that it closes, and never loses a request to that.
pub(super) const SILENCE: Duration = Duration::from_secs(1);

/// While closing, a client has this long without a byte: one that owes its reading, or a request's body.
const LEAVE_SILENCE: Duration = Duration::from_secs(2);
/// While closing, a request's body must be whole within this time, however it trickles.
const LEAVE_WHOLE: Duration = Duration::from_secs(10);

/// What every HTTP/2 connection begins with.
const PREFACE: &[u8] = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n";

/// How long a connection may take for what.
#[derive(Clone, Copy, Debug)]
pub(super) struct Patience {
    /// For a head, from its first byte, and for a newcomer's from its accept.
    pub(super) head: Duration,
    /// For doing nothing between requests.
    pub(super) idle: Duration,
    /// For reading the next byte of an answer.
    pub(super) write: Duration,
}

impl Patience {
    pub(super) fn shortest(&self) -> Duration {
        self.head.min(self.idle).min(self.write)
    }
}

/// Why a connection's time is up.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Fault {
    SlowHead,
    NeverReads,
    Idle,
    /// It was told to leave, has nothing in flight, and is still there.
    Overstays,
}

/// The version that a connection's first bytes announce.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Spoken {
    /// So many bytes of HTTP/2's preface, and nothing else.
    Preface(usize),
    Http1,
    Http2,
}

/// How far GOAWAY has come, which tells an HTTP/2 client to leave.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Farewell {
    No,
    ToSay,
    Said(Instant),
}

/// What has happened, and when. HTTP/2 has no `head`: what it carries between requests may be anything.
#[derive(Clone, Debug)]
pub(super) struct Moments {
    pub(super) spoken: Spoken,
    pub(super) asked: bool,
    /// The last byte in either direction.
    pub(super) byte: Instant,
    /// The first byte of a head that is not whole yet.
    pub(super) head: Option<Instant>,
    /// Requests between their head and the end of their answer.
    pub(super) in_flight: usize,
    /// Since when none has been in flight.
    pub(super) idle: Instant,
    /// Answers that have given a part of themselves and were not asked for the next: their client must read first.
    pub(super) unread: usize,
    /// Whether the socket takes no more.
    pub(super) blocked: bool,
    /// The last byte written, or the moment when a client began to owe its reading.
    pub(super) progress: Instant,
    /// The last time that the server did its part, and it was a client's turn to read.
    pub(super) gave: Instant,
    pub(super) farewell: Farewell,
}

impl Moments {
    pub(super) fn new(now: Instant) -> Self {
        Self {
            spoken: Spoken::Preface(0),
            asked: false,
            byte: now,
            head: Some(now),
            in_flight: 0,
            idle: now,
            unread: 0,
            blocked: false,
            progress: now,
            gave: now,
            farewell: Farewell::No,
        }
    }

    /// When the time of a connection is up if nothing happens on it until then. `None` while it is the server's turn.
    pub(super) fn due(&self, patience: &Patience) -> Option<(Instant, Fault)> {
        if self.owes_reading() {
            return Some((self.progress + patience.write, Fault::NeverReads));
        }
        if self.in_flight > 0 {
            return None;
        }
        Some(match self.head {
            Some(begun) => (begun + patience.head, Fault::SlowHead),
            None => (self.idle + patience.idle, Fault::Idle),
        })
    }

    /// The same for one that was told to leave, and be gone by `gone`: only a request in flight may keep it, and for
    /// a moment more the end of its answer.
    pub(super) fn due_to_go(&self, patience: &Patience, gone: Instant) -> Option<(Instant, Fault)> {
        match self.due(patience) {
            None | Some((_, Fault::NeverReads)) => self.due(patience),
            Some(_) if self.asked => Some((gone.max(self.idle + SILENCE), Fault::Overstays)),
            Some(_) => Some((gone, Fault::Overstays)),
        }
    }

    /// The same while all are told to leave: a client that owes its reading, and has nothing else to wait for, keeps it
    /// only as long as it reads on.
    pub(super) fn due_to_leave(&self, patience: &Patience, gone: Instant) -> Option<(Instant, Fault)> {
        if !self.owes_reading() {
            return self.due_to_go(patience, gone);
        }
        let reads = self.progress.max(self.gave) + LEAVE_SILENCE;
        (self.in_flight <= self.unread).then_some((gone.max(reads), Fault::NeverReads))
    }

    fn owes_reading(&self) -> bool {
        self.unread > 0 || self.blocked
    }

    pub(super) fn begin(&mut self) {
        (self.head, self.asked) = (None, true);
        self.in_flight += 1;
    }

    pub(super) fn end(&mut self, now: Instant) {
        self.in_flight -= 1;
        self.idle = now;
    }

    pub(super) fn note_read(&mut self, bytes: &[u8], now: Instant) {
        self.byte = now;
        if let Spoken::Preface(known) = self.spoken {
            let rest = &PREFACE[known..];
            let compared = rest.len().min(bytes.len());
            self.spoken = match known + compared {
                _ if rest[..compared] != bytes[..compared] => Spoken::Http1,
                whole if whole == PREFACE.len() => Spoken::Http2,
                part => Spoken::Preface(part),
            };
            if self.spoken == Spoken::Http2 {
                (self.head, self.idle) = (None, now);
            }
        }
        if self.spoken != Spoken::Http2 && self.in_flight == 0 {
            self.head.get_or_insert(now);
        }
    }

    pub(super) fn note_write(&mut self, bytes: usize, now: Instant) {
        self.blocked = false;
        if bytes > 0 {
            (self.byte, self.progress) = (now, now);
        }
    }

    /// Notes a change after which the client may owe its reading; if it did not before, its time begins now.
    pub(super) fn note_owed(&mut self, now: Instant, change: impl FnOnce(&mut Self)) {
        let (owed, unread) = (self.owes_reading(), self.unread);
        change(self);
        if self.unread > unread {
            self.gave = now;
        }
        if !owed {
            self.progress = now;
        }
    }
}

/// How far a request's body has come.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Arrival {
    /// Since when the server waits for the next part. `None` while it does not, and after the last.
    awaited: Option<Instant>,
    /// Whether nobody will ask for more of it.
    over: bool,
}

impl Arrival {
    /// The server asked for the next part, and it `came`, or did not yet.
    pub(super) fn note_asked(&mut self, came: bool, now: Instant) {
        if came {
            self.awaited = None;
        } else {
            self.awaited.get_or_insert(now);
        }
    }

    /// All of it has come, or the rest is not wanted.
    pub(super) fn note_over(&mut self) {
        *self = Self { awaited: None, over: true };
    }

    pub(super) fn is_over(&self) -> bool {
        self.over
    }

    /// When the time of the request is up, where all were told to leave at `told`. `None` while it is the server's turn.
    pub(super) fn due_to_leave(&self, told: Instant) -> Option<Instant> {
        self.awaited.map(|since| (since.max(told) + LEAVE_SILENCE).min(told + LEAVE_WHOLE))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Patience =
        Patience { head: Duration::from_secs(15), idle: Duration::from_secs(75), write: Duration::from_secs(30) };

    /// What may happen on a connection.
    #[derive(Clone, Copy, Debug)]
    enum Event {
        Read(&'static [u8]),
        Asked,
        Answered,
        /// A part of the answer is there, and its client must read it.
        Gave,
        /// Its client has read it.
        Wanted,
        Wrote,
        Blocked,
    }
    use Event::{Answered, Asked, Blocked, Gave, Read, Wanted, Wrote};

    /// An HTTP/1 head, or a part of one.
    const PART: Event = Read(b"GET /");
    const PREFACE_WHOLE: Event = Read(PREFACE);
    const FRAME: Event = Read(&[0, 0, 0, 4]);

    fn after(events: &[(u64, Event)], born: Instant) -> Moments {
        let mut moments = Moments::new(born);
        for &(second, event) in events {
            let now = born + Duration::from_secs(second);
            match event {
                Read(bytes) => moments.note_read(bytes, now),
                Asked => moments.begin(),
                Answered => moments.end(now),
                Gave => moments.note_owed(now, |moments| moments.unread += 1),
                Wanted => moments.unread -= 1,
                Wrote => moments.note_write(1, now),
                Blocked => moments.note_owed(now, |moments| moments.blocked = true),
            }
        }
        moments
    }

    #[test]
    fn a_connections_time_is_up_when_the_table_says_so() {
        use Fault::{Idle, NeverReads, SlowHead};
        type Row = (&'static str, &'static [(u64, Event)], Option<(u64, Fault)>);
        let table: [Row; 16] = [
            ("a newcomer must send a head", &[], Some((15, SlowHead))),
            ("bytes of a head do not prolong it", &[(1, PART), (14, PART)], Some((15, SlowHead))),
            (
                "part of a preface is part of a head",
                &[(1, Read(b"PRI * HT")), (2, Read(b"TP/2"))],
                Some((15, SlowHead)),
            ),
            ("while the server computes, nothing is due", &[(1, PART), (1, Asked)], None),
            ("nor while a body trickles in", &[(1, PART), (1, Asked), (500, PART)], None),
            ("idleness begins with the end of the answer", &[(1, PART), (1, Asked), (9, Answered)], Some((84, Idle))),
            ("a head begins with its first byte", &[(1, Asked), (9, Answered), (70, PART)], Some((85, SlowHead))),
            ("and is over when it is whole", &[(1, Asked), (9, Answered), (70, PART), (71, Asked)], None),
            ("HTTP/2 may wait with its first request", &[(2, PREFACE_WHOLE)], Some((77, Idle))),
            (
                "its frames are neither heads nor activity",
                &[(2, PREFACE_WHOLE), (3, FRAME), (60, FRAME)],
                Some((77, Idle)),
            ),
            ("its streams overlap", &[(2, PREFACE_WHOLE), (3, Asked), (4, Asked), (5, Answered)], None),
            ("a client that owes its reading", &[(1, Asked), (5, Gave)], Some((35, NeverReads))),
            ("reads on", &[(1, Asked), (5, Gave), (30, Wrote)], Some((60, NeverReads))),
            ("and has read", &[(1, Asked), (5, Gave), (30, Wanted)], None),
            (
                "a second answer does not prolong the first",
                &[(1, Asked), (1, Asked), (5, Gave), (20, Gave)],
                Some((35, NeverReads)),
            ),
            (
                "a full socket counts after the answer, too",
                &[(1, Asked), (5, Blocked), (5, Answered)],
                Some((35, NeverReads)),
            ),
        ];
        let born = Instant::now();
        for (rule, events, expected) in table {
            let expected = expected.map(|(second, fault)| (born + Duration::from_secs(second), fault));
            assert_eq!(after(events, born).due(&PATIENCE), expected, "{rule}");
        }
    }

    #[test]
    fn only_a_request_in_flight_keeps_a_connection_that_was_told_to_leave() {
        use Fault::{NeverReads, Overstays};
        type Row = (&'static str, &'static [(u64, Event)], Option<(u64, Fault)>);
        let table: [Row; 6] = [
            ("unasked", &[], Some((100_000, Overstays))),
            ("a head that trickles in", &[(1, Asked), (9, Answered), (99, PART)], Some((100_000, Overstays))),
            ("an answer that ended a moment ago", &[(1, Asked), (100, Answered)], Some((101_000, Overstays))),
            ("a silent HTTP/2 client", &[(1, PREFACE_WHOLE)], Some((100_000, Overstays))),
            ("a request in flight", &[(1, Asked)], None),
            ("an answer that is not read", &[(1, Asked), (99, Gave)], Some((129_000, NeverReads))),
        ];
        let born = Instant::now();
        for (rule, events, expected) in table {
            let gone = born + Duration::from_secs(100);
            let expected = expected.map(|(millis, fault)| (born + Duration::from_millis(millis), fault));
            assert_eq!(after(events, born).due_to_go(&PATIENCE, gone), expected, "{rule}");
        }
    }

    #[test]
    fn a_client_that_owes_its_reading_keeps_a_connection_of_the_end_while_it_reads_or_the_server_computes() {
        use Fault::{NeverReads, Overstays};
        type Row = (&'static str, &'static [(u64, Event)], Option<(u64, Fault)>);
        let table: [Row; 11] = [
            ("unasked", &[], Some((102, Overstays))),
            ("a request in flight", &[(1, Asked)], None),
            ("an answer that was not read for long", &[(1, Asked), (50, Gave)], Some((102, NeverReads))),
            ("or not lately", &[(1, Asked), (101, Gave)], Some((103, NeverReads))),
            ("one that is read", &[(1, Asked), (50, Gave), (110, Wrote)], Some((112, NeverReads))),
            ("and was read", &[(1, Asked), (50, Gave), (110, Wanted)], None),
            ("a full socket", &[(1, Asked), (50, Blocked), (51, Answered)], Some((102, NeverReads))),
            (
                "one that has nothing more to wait for",
                &[(1, Asked), (50, Blocked), (50, Gave)],
                Some((102, NeverReads)),
            ),
            ("a full socket before an answer that is computed", &[(1, Asked), (50, Blocked)], None),
            ("an answer that is not read, and another computed", &[(1, Asked), (1, Asked), (50, Gave)], None),
            (
                "until that is not read either",
                &[(1, Asked), (1, Asked), (50, Gave), (120, Gave)],
                Some((122, NeverReads)),
            ),
        ];
        let born = Instant::now();
        for (rule, events, expected) in table {
            let gone = born + Duration::from_secs(102);
            let expected = expected.map(|(second, fault)| (born + Duration::from_secs(second), fault));
            assert_eq!(after(events, born).due_to_leave(&PATIENCE, gone), expected, "{rule}");
        }
    }

    #[test]
    fn at_the_end_a_body_must_go_on_and_be_whole_in_time() {
        // Seconds at which the server asks for the next part, and whether it comes.
        type Row = (&'static str, &'static [(u64, bool)], Option<u64>);
        let table: [Row; 7] = [
            ("nobody asks for it", &[], None),
            ("it stood still long before", &[(1, false)], Some(102)),
            ("it stands still", &[(101, true), (101, false)], Some(103)),
            ("asking again changes nothing", &[(101, false), (102, false)], Some(103)),
            ("a part came, and it is the server's turn", &[(101, false), (102, true)], None),
            ("it goes on", &[(101, false), (102, true), (104, false)], Some(106)),
            ("it goes on for too long", &[(101, false), (109, true), (109, false)], Some(110)),
        ];
        let born = Instant::now();
        let at = |second| born + Duration::from_secs(second);
        for (rule, events, expected) in table {
            let mut arrival = Arrival::default();
            for &(second, came) in events {
                arrival.note_asked(came, at(second));
            }
            assert_eq!(arrival.due_to_leave(at(100)), expected.map(at), "{rule}");
        }
    }

    #[test]
    fn the_version_is_told_from_the_first_bytes_however_they_come() {
        let born = Instant::now();
        for size in 1..=PREFACE.len() {
            let mut moments = Moments::new(born);
            PREFACE.chunks(size).for_each(|bytes| moments.note_read(bytes, born));
            assert_eq!(moments.spoken, Spoken::Http2, "in pieces of {size}");
        }
        for other in [&b"GET / HTTP/1.1"[..], b"P", b"PRI * HTTP/2.0\r\n\r\nXX"] {
            let mut moments = Moments::new(born);
            other.chunks(4).for_each(|bytes| moments.note_read(bytes, born));
            assert_ne!(moments.spoken, Spoken::Http2, "{other:?}");
        }
    }
}
