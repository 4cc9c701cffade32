//! Log lines kept in memory, for tests that look for what must, or must not, be there.

use std::io::{self, Write};
use std::sync::{Arc, Mutex, PoisonError};

use tracing::subscriber::DefaultGuard;
use tracing_subscriber::Registry;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::layer::SubscriberExt as _;

use super::{Colour, lines};
use crate::config::{Log, LogFormat};

/// A shared buffer that log lines are written to.
#[derive(Clone, Debug, Default)]
pub struct Capture(Arc<Mutex<Vec<u8>>>);

impl Capture {
    /// Captures what the current thread logs until the guard is dropped, everything down to trace.
    pub fn start(format: LogFormat) -> (Self, DefaultGuard) {
        let capture = Self::default();
        let log = Log {
            filter: "trace".to_owned(),
            format,
        };
        let subscriber = Registry::default().with(lines(&log, Colour::Off, capture.clone()));
        (capture.clone(), tracing::subscriber::set_default(subscriber))
    }

    /// Everything written so far.
    pub fn text(&self) -> String {
        let bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).into_owned()
    }
}

impl Write for &Capture {
    fn write(&mut self, buffer: &[u8]) -> io::Result<usize> {
        let mut bytes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.extend_from_slice(buffer);
        Ok(buffer.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl<'writer> MakeWriter<'writer> for Capture {
    type Writer = &'writer Capture;

    fn make_writer(&'writer self) -> Self::Writer {
        self
    }
}
