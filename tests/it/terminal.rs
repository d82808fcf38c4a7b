//! A pseudo-terminal, and a program in it: what stands on its screen, the keys that somebody presses, and how it is left.

use std::fs::File;
use std::io::{Read as _, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Child, Command, ExitStatus};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};

use crate::support::{PATIENCE, wait};

pub(crate) struct Terminal {
    /// The side of whoever looks and types.
    ours: File,
    /// Kept open, so that what it was left like can be asked.
    theirs: File,
    child: Child,
    screen: Arc<Mutex<vt100::Parser>>,
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize { ws_row: rows, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 }
}

impl Terminal {
    /// Runs `command` in a terminal of so many columns and rows, which is its controlling one.
    pub(crate) fn run(command: &Command, (columns, rows): (u16, u16)) -> Self {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY).expect("there are pseudo-terminals");
        grantpt(&ours).expect("it is ours");
        unlockpt(&ours).expect("it is ours");
        tcsetwinsize(&ours, size(columns, rows)).expect("a terminal has a size");
        let name = ptsname(&ours, Vec::new()).expect("it has a name");
        let path = Path::new(std::ffi::OsStr::from_bytes(name.as_bytes()));
        let theirs = File::options().read(true).write(true).open(path).expect("it can be opened");
        let side = || theirs.try_clone().expect("a descriptor is free");
        // By itself, the program would ask /dev/tty for its size, which is that of whoever runs the tests.
        let mut program = Command::new("setsid");
        program.arg("--ctty").arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => program.env(name, value),
                None => program.env_remove(name),
            };
        }
        program.stdin(side()).stdout(side()).stderr(side());
        let child = program.spawn().expect("setsid is a part of every Debian");
        let screen = Arc::new(Mutex::new(vt100::Parser::new(
            rows.try_into().expect("above 0"),
            columns.try_into().expect("above 0"),
            0,
        )));
        let ours = File::from(ours);
        let (mut from, shown) = (ours.try_clone().expect("a descriptor is free"), screen.clone());
        let follow = move || {
            let mut bytes = [0; 4096];
            while let Ok(count @ 1..) = from.read(&mut bytes) {
                shown.lock().unwrap_or_else(PoisonError::into_inner).process(&bytes[..count]);
            }
        };
        thread::Builder::new().name("terminal".to_owned()).spawn(follow).expect("a thread starts");
        Self { ours, theirs, child, screen }
    }

    fn look<T>(&self, at: impl FnOnce(&vt100::Screen) -> T) -> T {
        at(self.screen.lock().unwrap_or_else(PoisonError::into_inner).screen())
    }

    /// What stands there, line by line.
    pub(crate) fn text(&self) -> String {
        self.look(vt100::Screen::contents)
    }

    /// Waits until all of `parts` stand there, and returns what does.
    pub(crate) fn wait_for(&self, parts: &[&str]) -> String {
        let started = Instant::now();
        loop {
            let text = self.text();
            let missing: Vec<_> = parts.iter().filter(|part| !text.contains(**part)).collect();
            if missing.is_empty() {
                return text;
            }
            assert!(started.elapsed() < PATIENCE, "{missing:?} are not on the screen:\n{text}");
            thread::sleep(Duration::from_millis(5));
        }
    }

    pub(crate) fn has_colors(&self) -> bool {
        let (rows, columns) = self.look(vt100::Screen::size);
        let places = (0..rows.get()).flat_map(|row| (0..columns.get()).map(move |column| (row, column)));
        self.look(|screen| {
            let mut cells = places.filter_map(|(row, column)| screen.cell(row, column));
            cells.any(|cell| cell.fgcolor() != vt100::Color::Default || cell.bgcolor() != vt100::Color::Default)
        })
    }

    pub(crate) fn press(&mut self, keys: &str) {
        self.ours.write_all(keys.as_bytes()).expect("the terminal takes keys");
    }

    pub(crate) fn resize(&self, columns: u16, rows: u16) {
        self.screen
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .screen_mut()
            .set_size(rows.try_into().expect("above 0"), columns.try_into().expect("above 0"));
        tcsetwinsize(&self.ours, size(columns, rows)).expect("a terminal has a size");
    }

    pub(crate) fn signal(&self, signal: Signal) {
        kill_process(Pid::from_child(&self.child), signal).expect("it runs");
    }

    /// Whether it draws on a screen of its own, and keys come to it as they are pressed.
    pub(crate) fn is_taken(&self) -> bool {
        let modes = tcgetattr(&self.theirs).expect("it is a terminal").local_modes;
        let is_raw = !modes.intersects(LocalModes::ICANON | LocalModes::ECHO);
        self.look(|screen| screen.alternate_screen() && screen.hide_cursor()) && is_raw
    }

    /// Whether lines are typed as before, on the screen that was there before, with a cursor.
    pub(crate) fn is_restored(&self) -> bool {
        let modes = tcgetattr(&self.theirs).expect("it is a terminal").local_modes;
        let is_cooked = modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG);
        self.look(|screen| !screen.alternate_screen() && !screen.hide_cursor()) && is_cooked
    }

    /// Waits for the end, which must come by itself.
    pub(crate) fn end(&mut self) -> ExitStatus {
        wait(&mut self.child, PATIENCE).unwrap_or_else(|| panic!("it does not end; its screen:\n{}", self.text()))
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
