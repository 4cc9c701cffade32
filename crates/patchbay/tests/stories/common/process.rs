//! The real binary as a child process.

use std::collections::BTreeMap;
use std::process::{ExitStatus, Stdio};
use std::sync::{Arc, Mutex};

use patchbay_ambient::Ambient;
use tokio::io::{AsyncBufReadExt as _, AsyncRead, BufReader};
use tokio::process::{Child, Command};

use super::until;

/// `patchbay …` at work. Killed when dropped.
pub struct Process {
    child: Child,
    stdout: Arc<Mutex<String>>,
    stderr: Arc<Mutex<String>>,
}

impl Process {
    /// Starts the binary with these words and variables, in a directory of its own.
    pub fn start(words: &[&str], variables: &BTreeMap<&str, String>, directory: &std::path::Path) -> Self {
        Self::run(env!("CARGO_BIN_EXE_patchbay"), words, variables, directory)
    }

    /// Starts another program that becomes the binary.
    pub fn run(
        program: &str,
        words: &[&str],
        variables: &BTreeMap<&str, String>,
        directory: &std::path::Path,
    ) -> Self {
        let mut command = Command::new(program);
        command
            .args(words)
            .current_dir(directory)
            .env_clear()
            .env("PATH", "/usr/local/bin:/usr/bin:/bin")
            .kill_on_drop(true);
        command
            .envs(variables)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = follow(child.stdout.take().unwrap());
        let stderr = follow(child.stderr.take().unwrap());
        Self {
            child,
            stdout,
            stderr,
        }
    }

    pub fn stdout(&self) -> String {
        self.stdout.lock().unwrap().clone()
    }

    pub fn stderr(&self) -> String {
        self.stderr.lock().unwrap().clone()
    }

    /// The URL of the API from the greeting.
    pub async fn url(&mut self) -> String {
        until("the greeting".to_owned(), async || {
            if let Some(status) = self.child.try_wait().unwrap() {
                panic!("ended with {status}: {}", self.stderr());
            }
            let text = self.stdout();
            let line = text.lines().find_map(|line| line.trim().strip_prefix("API "))?;
            // The last line printed says that nothing is cut off.
            Some(line.trim().replace("localhost", "127.0.0.1"))
        })
        .await
    }

    pub async fn says(&self, text: &str) {
        until(format!("{text:?} on stderr"), async || {
            self.stderr().contains(text).then_some(())
        })
        .await;
    }

    pub fn id(&self) -> u32 {
        self.child.id().expect("it runs")
    }

    pub fn signal(&self, name: &str) {
        let id = self.id().to_string();
        let sent = std::process::Command::new("kill")
            .args([&format!("-{name}"), &id])
            .status()
            .unwrap();
        assert!(sent.success());
    }

    pub async fn ended(&mut self) -> ExitStatus {
        let ended = tokio::time::timeout(std::time::Duration::from_mins(1), self.child.wait()).await;
        ended
            .unwrap_or_else(|_| panic!("it does not end: {}", self.stderr()))
            .unwrap()
    }
}

fn follow(stream: impl AsyncRead + Send + Unpin + 'static) -> Arc<Mutex<String>> {
    let text = Arc::new(Mutex::new(String::new()));
    let written = text.clone();
    Ambient::system().tasks.spawn(async move {
        let mut lines = BufReader::new(stream).lines();
        while let Ok(Some(line)) = lines.next_line().await {
            let mut text = written.lock().unwrap();
            text.push_str(&line);
            text.push('\n');
        }
    });
    text
}
