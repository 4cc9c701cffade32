//! Everything a test process logs, at every level, into a file of its own in `PATCHBAY_TEST_LOG_DIR`: `make test`
//! looks through them for planted secrets.

use std::fs::File;
use std::path::PathBuf;
use std::sync::{Mutex, Once};

use tracing_subscriber::filter::LevelFilter;

/// Starts once a process, and only where the variable is set. A test that installs a subscriber of its own wins.
#[expect(
    clippy::disallowed_methods,
    reason = "tests have no configuration to take the directory from"
)]
pub(super) fn capture() {
    static ONCE: Once = Once::new();
    ONCE.call_once(|| {
        let Some(directory) = std::env::var_os("PATCHBAY_TEST_LOG_DIR").map(PathBuf::from) else {
            return;
        };
        let program = std::env::current_exe().ok();
        let name = program
            .as_deref()
            .and_then(|path| path.file_stem())
            .unwrap_or_default();
        let path = directory.join(format!("{}-{}.log", name.to_string_lossy(), std::process::id()));
        let file = File::create(&path).expect("PATCHBAY_TEST_LOG_DIR is a directory that takes files");
        let lines = tracing_subscriber::fmt()
            .with_max_level(LevelFilter::TRACE)
            .with_ansi(false)
            .with_writer(Mutex::new(file))
            .finish();
        let _ = tracing::subscriber::set_global_default(lines);
    });
}
