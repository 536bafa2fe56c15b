//! The model's sockets: the admin socket, the master's, and the bind that tells which worker serves. The agent's own
//! code talks to them, so that its spelling and its reading are on trial as well.

use super::model::{Answer, Haproxy};
use std::cell::RefCell;
use std::rc::Rc;
use tokio::io::{AsyncBufReadExt, AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, UnixListener, UnixStream};
use tokio::sync::Notify;
use tokio::task::JoinHandle;

pub type Shared = Rc<RefCell<Haproxy>>;

/// The sockets of a HAProxy that runs; gone when it is stopped.
pub struct Sockets(Vec<JoinHandle<()>>);

impl Sockets {
    /// Nobody listens from now on.
    pub async fn close(self) {
        for task in self.0 {
            task.abort();
            let _ = task.await;
        }
    }
}

/// Listens; `died` is told when the agent's last hour has come.
pub async fn listen(haproxy: &Shared, port: u16, died: &Rc<Notify>) -> Sockets {
    let directory = haproxy.borrow().directory.clone();
    let bind = |name: &str| {
        let path = directory.join(name);
        let _ = std::fs::remove_file(&path);
        UnixListener::bind(path.as_std_path()).expect("a socket")
    };
    let (admin, master) = (bind("admin.sock"), bind("master.sock"));
    let port = TcpListener::bind(("127.0.0.1", port)).await.expect("a claimed port");
    let (a, b, c) = (haproxy.clone(), haproxy.clone(), haproxy.clone());
    let (d, e) = (died.clone(), died.clone());
    let admin = tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = admin.accept().await {
            let pid = a.borrow().serving;
            tokio::task::spawn_local(converse(a.clone(), stream, pid, d.clone()));
        }
    });
    let master = tokio::task::spawn_local(async move {
        while let Ok((stream, _)) = master.accept().await {
            tokio::task::spawn_local(command(b.clone(), stream, e.clone()));
        }
    });
    let bind = tokio::task::spawn_local(async move {
        while let Ok((mut stream, _)) = port.accept().await {
            let pid = c.borrow().serving.unwrap_or_default();
            let mut question = [0; 512];
            let _ = stream.read(&mut question).await;
            let answer = format!("HTTP/1.1 200 OK\r\nx-hapilot-worker: {pid}\r\n\r\n");
            let _ = stream.write_all(answer.as_bytes()).await;
        }
    });
    Sockets(vec![admin, master, bind])
}

/// A session on the admin socket: one prompt after each reply, and nothing else tells where a reply ends.
async fn converse(haproxy: Shared, mut stream: UnixStream, pid: Option<u32>, died: Rc<Notify>) {
    let Some(pid) = pid else { return };
    let (reader, mut writer) = stream.split();
    let mut lines = BufReader::new(reader).lines();
    let echoes = !haproxy.borrow().version.starts_with("3.2");
    while let Ok(Some(line)) = lines.next_line().await {
        let mut payload = None;
        let mut reply = String::new();
        let command = match line.strip_suffix(" <<") {
            Some(command) => {
                let text = payload.insert(String::new());
                while let Ok(Some(line)) = lines.next_line().await {
                    reply += if echoes { "+ " } else { "" };
                    if line.is_empty() {
                        break;
                    }
                    *text += &format!("{line}\n");
                }
                command
            }
            None => line.as_str(),
        };
        if command != "prompt" {
            let answer = haproxy.borrow_mut().admin(pid, command, payload.as_deref());
            match answer {
                Answer::Reply(text) => reply += &text,
                Answer::HangUp => return,
                Answer::Silence => {
                    died.notify_one();
                    return std::future::pending().await;
                }
            }
        }
        let blank = if reply.ends_with('\n') || reply.is_empty() || reply.ends_with("+ ") { "\n" } else { "\n\n" };
        if writer.write_all(format!("{reply}{blank}> ").as_bytes()).await.is_err() {
            return;
        }
    }
}

/// One command to the master, which answers and closes.
async fn command(haproxy: Shared, mut stream: UnixStream, died: Rc<Notify>) {
    let mut line = String::new();
    let _ = stream.read_to_string(&mut line).await;
    let answer = haproxy.borrow_mut().master(line.trim());
    match answer {
        Answer::Reply(text) => drop(stream.write_all(text.as_bytes()).await),
        Answer::HangUp => {}
        Answer::Silence => {
            died.notify_one();
            std::future::pending().await
        }
    }
}
