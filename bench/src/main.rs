//! `patchbay-bench load`, `patchbay-bench upstream`, `patchbay-bench prove`.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Parser, Subcommand};
use patchbay_ambient::Ambient;
use patchbay_bench::prove::{Proof, Setting, Size};
use patchbay_bench::{process, rig, upstream};
use tokio::runtime::Builder;

#[derive(Debug, Parser)]
#[command(
    name = "patchbay-bench",
    about = "Measures the server beside nginx, and proves what needs real processes."
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Measure the hot paths and print the table.
    Load(rig::Options),
    /// Serve a plain fast upstream over HTTP and HTTPS until killed; prints its addresses as JSON.
    Upstream {
        /// Bytes of each answer.
        #[arg(long, default_value_t = 1024)]
        length: usize,
        /// Where to write the certificate to trust.
        #[arg(long)]
        certificate: PathBuf,
    },
    /// Prove something and write its report.
    Prove {
        /// What; everything if nothing is named.
        proofs: Vec<Proof>,
        /// Some seconds instead of the full figures, and no report.
        #[arg(long)]
        small: bool,
        /// The server's program; `patchbay` beside this one if not given.
        #[arg(long)]
        program: Option<PathBuf>,
        /// Where reports go.
        #[arg(long, default_value = "docs/proof")]
        out: PathBuf,
    },
}

fn main() -> ExitCode {
    match run(&Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            say(&format!("patchbay-bench: {error:#}"));
            ExitCode::FAILURE
        }
    }
}

fn run(command: &Command) -> anyhow::Result<ExitCode> {
    let ambient = Ambient::system();
    match command {
        Command::Load(options) => {
            // One thread: the load generator must not take both cores from what it measures.
            let runtime = Builder::new_current_thread().enable_all().build()?;
            let met = runtime.block_on(rig::run(options, &ambient))?;
            print(&met);
            Ok(ExitCode::SUCCESS)
        }
        Command::Upstream { length, certificate } => {
            let runtime = Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?;
            runtime.block_on(async {
                let (tls, pem) = upstream::certificate()?;
                std::fs::write(certificate, pem)?;
                let plain = upstream::serve(*length, None, &ambient)?;
                let secure = upstream::serve(*length, Some(tls), &ambient)?;
                print(&serde_json::json!({ "http": plain, "https": secure }).to_string());
                std::future::pending::<anyhow::Result<ExitCode>>().await
            })
        }
        Command::Prove {
            proofs,
            small,
            program,
            out,
        } => {
            let setting = Setting {
                program: process::program(program.as_deref())?,
                bench: std::env::current_exe()?,
                size: if *small { Size::Small } else { Size::Full },
                ambient: ambient.clone(),
            };
            let chosen = if proofs.is_empty() {
                &Proof::ALL[..]
            } else {
                proofs.as_slice()
            };
            let runtime = Builder::new_multi_thread()
                .worker_threads(2)
                .enable_all()
                .build()?;
            runtime.block_on(prove(&setting, chosen, out))
        }
    }
}

async fn prove(setting: &Setting, proofs: &[Proof], out: &std::path::Path) -> anyhow::Result<ExitCode> {
    let mut code = ExitCode::SUCCESS;
    for proof in proofs {
        let began = setting.ambient.now();
        let report = proof.run(setting).await?;
        let took = setting.ambient.now().duration_since(began);
        let command = format!("patchbay-bench prove {}", proof.name());
        print(&report.markdown(&command, &setting.ambient));
        print(&format!("({} took {} s)\n", proof.name(), took.as_secs()));
        if setting.size == Size::Full {
            report.write(&proof.path(out), &command, &setting.ambient)?;
        }
        if !report.holds() {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

#[expect(clippy::print_stdout, reason = "a command prints its result")]
fn print(text: &str) {
    println!("{text}");
}

#[expect(clippy::print_stderr, reason = "a command says why it failed")]
fn say(text: &str) {
    eprintln!("{text}");
}
