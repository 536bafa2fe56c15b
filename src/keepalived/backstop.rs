//! Who decides while the agent is dead: Keepalived runs this node's backstop every second, which believes a living agent
//! and asks HAProxy itself where there is none.

use super::track::{clear_faults, replace};
use crate::sys;
use camino::{Utf8Path, Utf8PathBuf};
use std::io::{self, Read, Write};
use std::os::unix::net::UnixStream;
use std::time::{Duration, SystemTime};

/// An agent that said nothing for as long is dead, or stuck: it speaks four times a second. Wrong in doubt is harmless,
/// since HAProxy is asked then.
const STALE: Duration = Duration::from_millis(800);
/// HAProxy answers in a millisecond. Keepalived gives the whole backstop a second.
const ANSWER: Duration = Duration::from_millis(300);
/// The heartbeat's file has one path in it.
const MAX_BYTES: u64 = 4096;

fn heartbeat(directory: &Utf8Path) -> Utf8PathBuf {
    directory.join("heartbeat")
}

/// Says that the agent lives, and where HAProxy can be asked when it does not.
///
/// # Errors
/// The file cannot be written.
pub fn beat(directory: &Utf8Path, admin_socket: &Utf8Path) -> io::Result<()> {
    replace(&heartbeat(directory), admin_socket.as_str())
}

/// Whether this node may own its addresses, as far as the backstop can tell, also where no agent ever ran: the agent
/// lives, and its own word in the track files counts; or HAProxy answers on its admin socket. Then no word of a dead
/// agent keeps the node out.
///
/// # Errors
/// Why not, in words.
pub fn backstop(directory: &Utf8Path, admin_socket: Option<&Utf8Path>) -> Result<(), String> {
    let path = heartbeat(directory);
    let told = |e: io::Error| format!("{path}: {e}");
    let written = fs_err::metadata(&path).and_then(|metadata| metadata.modified());
    // A clock that was set back makes it lie in the future: then HAProxy is asked.
    if written.is_ok_and(|at| SystemTime::now().duration_since(at).is_ok_and(|age| age < STALE)) {
        return Ok(());
    }
    let socket = match admin_socket {
        Some(socket) => socket.to_owned(),
        None => {
            let named = sys::files::read_limited(&path, MAX_BYTES).map_err(told)?;
            Utf8PathBuf::from(String::from_utf8_lossy(&named).into_owned())
        }
    };
    answers(&socket).map_err(|e| format!("no agent lives, and HAProxy does not answer on {socket}: {e}"))?;
    // It may have died while HAProxy was gone, and cannot take it back.
    clear_faults(directory).map_err(|e| e.to_string())
}

/// Whether HAProxy answers one question.
fn answers(socket: &Utf8Path) -> io::Result<()> {
    let mut stream = UnixStream::connect(socket)?;
    stream.set_read_timeout(Some(ANSWER))?;
    stream.set_write_timeout(Some(ANSWER))?;
    stream.write_all(b"show version\n")?;
    let mut byte = [0];
    match stream.read(&mut byte)? {
        0 => Err(io::ErrorKind::UnexpectedEof.into()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::net::UnixListener;

    #[test]
    fn a_living_agent_is_believed_and_a_dead_one_replaced() {
        let held = tempfile::tempdir().unwrap();
        let directory = Utf8Path::from_path(held.path()).unwrap();
        let socket = directory.join("admin.sock");
        assert!(backstop(directory, None).is_err(), "nobody ever spoke");
        assert!(backstop(directory, Some(&socket)).is_err(), "nor does HAProxy run");
        // On a busy machine a beat may be stale before it is looked at; a living agent beats again.
        let is_believed = || {
            beat(directory, &socket).unwrap();
            backstop(directory, None) == Ok(())
        };
        assert!((0..20).any(|_| is_believed()), "the agent says the rest by its track files");
        // The agent dies, having said that this node cannot serve.
        fs_err::create_dir(directory.join("track")).unwrap();
        fs_err::write(directory.join("track/public.hard"), "1\n").unwrap();
        let file = fs_err::OpenOptions::new().write(true).open(heartbeat(directory)).unwrap();
        file.file().set_modified(SystemTime::now() - Duration::from_secs(9)).unwrap();
        let why = backstop(directory, None).unwrap_err();
        assert!(why.contains("HAProxy does not answer"), "{why}");
        assert_eq!(fs_err::read_to_string(directory.join("track/public.hard")).unwrap(), "1\n");
        let listener = UnixListener::bind(&socket).unwrap();
        let answering = std::thread::spawn(move || {
            // Until one question was answered in time: who asked may have left a busy machine's answer.
            while let Ok((mut stream, _)) = listener.accept() {
                let mut question = [0; 16];
                if stream.read(&mut question).is_ok_and(|length| &question[..length] == b"end\n") {
                    return;
                }
                let _ = stream.write_all(b"3.2\n");
            }
        });
        assert!((0..20).any(|_| backstop(directory, None) == Ok(())));
        UnixStream::connect(&socket).unwrap().write_all(b"end\n").unwrap();
        answering.join().unwrap();
        assert_eq!(fs_err::read_to_string(directory.join("track/public.hard")).unwrap(), "0\n");
    }
}
