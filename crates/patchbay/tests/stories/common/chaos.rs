//! A TCP proxy that can be told to refuse: the network between a server and its database.

use std::net::SocketAddr;

use patchbay_ambient::Ambient;
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream, UnixStream};
use tokio::sync::watch;

/// Where the traffic goes.
#[derive(Clone, Debug)]
pub enum Upstream {
    Tcp(SocketAddr),
    Unix(std::path::PathBuf),
}

/// A proxy on a free loopback port; it ends with the ambient tasks.
pub struct ChaosProxy {
    pub address: SocketAddr,
    open: watch::Sender<bool>,
    tasks: Ambient,
}

impl ChaosProxy {
    pub async fn to(upstream: Upstream) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (open, state) = watch::channel(true);
        let tasks = Ambient::system();
        let connections = tasks.tasks.clone();
        let stopping = tasks.tasks.stopping();
        tasks.tasks.spawn(async move {
            loop {
                let accepted = tokio::select! {
                    accepted = listener.accept() => accepted,
                    () = stopping.cancelled() => return,
                };
                let Ok((client, _)) = accepted else { continue };
                if *state.borrow() {
                    let (upstream, state, stopping) = (upstream.clone(), state.clone(), stopping.clone());
                    connections.spawn(async move {
                        tokio::select! {
                            () = relay(client, upstream) => {}
                            () = closed(state) => {}
                            () = stopping.cancelled() => {}
                        }
                    });
                }
            }
        });
        Self { address, open, tasks }
    }

    /// Cuts every connection and takes no more.
    pub fn cut(&self) {
        self.open.send_replace(false);
    }

    pub fn mend(&self) {
        self.open.send_replace(true);
    }
}

impl Drop for ChaosProxy {
    fn drop(&mut self) {
        self.tasks.tasks.stop();
    }
}

async fn closed(mut state: watch::Receiver<bool>) {
    let _ = state.wait_for(|open| !open).await;
}

async fn relay(mut client: TcpStream, upstream: Upstream) {
    match upstream {
        Upstream::Tcp(address) => {
            if let Ok(mut server) = TcpStream::connect(address).await {
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        }
        Upstream::Unix(path) => {
            if let Ok(mut server) = UnixStream::connect(path).await {
                let _ = copy_bidirectional(&mut client, &mut server).await;
            }
        }
    }
}
