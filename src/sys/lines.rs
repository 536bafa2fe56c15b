//! A file of lines that only grows, until it is put beside and begun anew; and its reader, who may follow it.
//!
//! Refuses to know what a line says. A process that is killed loses nothing that was appended; what a power cut loses is
//! what was not synced. A line that was torn by a full disk or a crash ends where the next one begins. Called by `store`.

use super::rights::{self, Want};
use camino::{Utf8Path, Utf8PathBuf};
use fs_err::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};

/// Read at once.
const CHUNK: usize = 64 << 10;
/// Never waits for a FIFO, follows no link that somebody put there.
const CAREFUL: i32 = nix::fcntl::OFlag::O_NONBLOCK.bits() | nix::fcntl::OFlag::O_NOFOLLOW.bits();

/// Appends lines. The file that is full is kept as `PATH.1`, in the place of the one before.
#[derive(Debug)]
pub struct LineWriter {
    path: Utf8PathBuf,
    max_bytes: u64,
    open: Option<(File, u64)>,
}

impl LineWriter {
    /// Opens nothing yet. Both files together have at most twice `max_bytes`, and one batch of lines.
    pub fn new(path: Utf8PathBuf, max_bytes: u64) -> Self {
        Self { path, max_bytes, open: None }
    }

    /// Appends whole lines, each with its end.
    ///
    /// # Errors
    /// The file cannot be made or written; the next call opens it anew.
    pub fn append(&mut self, lines: &str) -> io::Result<()> {
        let (mut file, length) = match self.open.take() {
            // Somebody removed the file, or put another in its place.
            Some((file, length)) if is_at(&file, &self.path) => (file, length),
            _ => self.open_file()?,
        };
        file.write_all(lines.as_bytes())?;
        let length = length + lines.len() as u64;
        if length < self.max_bytes {
            self.open = Some((file, length));
            return Ok(());
        }
        file.sync_data()?;
        fs_err::rename(&self.path, beside(&self.path))
    }

    /// Makes durable what was appended.
    ///
    /// # Errors
    /// The disk refuses.
    pub fn sync(&mut self) -> io::Result<()> {
        self.open.as_ref().map_or(Ok(()), |(file, _)| file.sync_data())
    }

    fn open_file(&self) -> io::Result<(File, u64)> {
        let mut options = fs_err::OpenOptions::new();
        options.read(true).append(true).create(true);
        options.options_mut().mode(0o640).custom_flags(CAREFUL);
        let mut file = options.open(&self.path)?;
        let found = file.metadata()?;
        if !found.is_file() {
            return Err(io::Error::other(format!("{} is not a regular file", self.path)));
        }
        let mut length = found.len();
        if length > 0 {
            let mut last = [0];
            file.seek(SeekFrom::End(-1))?;
            file.read_exact(&mut last)?;
            if last != *b"\n" {
                file.write_all(b"\n")?;
                length += 1;
            }
        }
        Ok((file, length))
    }
}

/// Reads lines: those of the file put beside, those of the file, and what comes later.
#[derive(Debug)]
pub struct LineReader {
    path: Utf8PathBuf,
    open: Option<File>,
    has_begun: bool,
    /// The beginning of a line whose end is not there yet.
    begun: Vec<u8>,
}

impl LineReader {
    /// Begins with the oldest line.
    pub fn new(path: Utf8PathBuf) -> Self {
        Self { path, open: None, has_begun: false, begun: vec![] }
    }

    /// Hands over every whole line that is there now and was not handed over before.
    ///
    /// # Errors
    /// A file is there and cannot be read.
    pub fn read(&mut self, mut take: impl FnMut(&str)) -> io::Result<()> {
        if !self.has_begun {
            self.has_begun = true;
            self.open = open(&beside(&self.path))?;
            self.drain(&mut take)?;
            self.next_file(&mut take)?;
        }
        // It may be put beside while it is read: its rest comes first.
        for _ in 0..2 {
            self.drain(&mut take)?;
            if self.open.as_ref().is_some_and(|file| is_at(file, &self.path)) {
                break;
            }
            self.next_file(&mut take)?;
        }
        Ok(())
    }

    fn next_file(&mut self, take: &mut impl FnMut(&str)) -> io::Result<()> {
        self.open = open(&self.path)?;
        if !self.begun.is_empty() {
            take(&String::from_utf8_lossy(&std::mem::take(&mut self.begun)));
        }
        Ok(())
    }

    fn drain(&mut self, take: &mut impl FnMut(&str)) -> io::Result<()> {
        let Some(file) = &mut self.open else { return Ok(()) };
        let mut chunk = vec![0; CHUNK];
        loop {
            let length = file.read(&mut chunk)?;
            if length == 0 {
                return Ok(());
            }
            for piece in chunk[..length].split_inclusive(|byte| *byte == b'\n') {
                self.begun.extend_from_slice(piece);
                if self.begun.ends_with(b"\n") {
                    self.begun.pop();
                    take(&String::from_utf8_lossy(&self.begun));
                    self.begun.clear();
                }
            }
        }
    }
}

fn beside(path: &Utf8Path) -> Utf8PathBuf {
    format!("{path}.1").into()
}

fn open(path: &Utf8Path) -> io::Result<Option<File>> {
    let mut options = fs_err::OpenOptions::new();
    options.read(true).options_mut().custom_flags(CAREFUL);
    match options.open(path) {
        Ok(file) if file.metadata()?.is_file() => Ok(Some(file)),
        Ok(_) => Err(io::Error::other(format!("{path} is not a regular file"))),
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(rights::told(e, path, Want::Read)),
    }
}

fn is_at(file: &File, path: &Utf8Path) -> bool {
    let (Ok(own), Ok(there)) = (file.metadata(), fs_err::symlink_metadata(path)) else { return false };
    (own.dev(), own.ino()) == (there.dev(), there.ino())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place() -> (tempfile::TempDir, Utf8PathBuf) {
        let held = tempfile::tempdir().unwrap();
        let path = Utf8Path::from_path(held.path()).unwrap().join("lines");
        (held, path)
    }

    fn read(reader: &mut LineReader) -> Vec<String> {
        let mut lines = vec![];
        reader.read(|line| lines.push(line.to_owned())).unwrap();
        lines
    }

    #[test]
    fn a_reader_that_follows_sees_each_line_once_over_every_rotation() {
        let (_held, path) = place();
        let (mut writer, mut reader) = (LineWriter::new(path.clone(), 40), LineReader::new(path.clone()));
        assert_eq!(read(&mut reader), Vec::<String>::new());
        let mut seen = vec![];
        for number in 0..50 {
            writer.append(&format!("line {number}\n")).unwrap();
            if number % 3 == 0 {
                seen.extend(read(&mut reader));
            }
        }
        writer.sync().unwrap();
        seen.extend(read(&mut reader));
        assert_eq!(seen, (0..50).map(|number| format!("line {number}")).collect::<Vec<_>>());
        let size = |path: &Utf8Path| fs_err::metadata(path).map_or(0, |found| found.len());
        assert!(size(&path) + size(&beside(&path)) < 2 * 40 + 10);
        // Who comes later sees what is kept, the newest last.
        assert_eq!(read(&mut LineReader::new(path)).last().map(String::as_str), Some("line 49"));
    }

    #[test]
    fn a_torn_line_ends_where_the_next_begins() {
        let (_held, path) = place();
        fs_err::write(&path, "whole\nhal").unwrap();
        LineWriter::new(path.clone(), 1_000).append("next\n").unwrap();
        assert_eq!(read(&mut LineReader::new(path)), ["whole", "hal", "next"]);
    }

    #[test]
    fn what_is_removed_or_replaced_is_begun_anew_and_links_are_refused() {
        let (held, path) = place();
        let mut writer = LineWriter::new(path.clone(), 1_000);
        writer.append("a\n").unwrap();
        fs_err::remove_file(&path).unwrap();
        writer.append("b\n").unwrap();
        assert_eq!(fs_err::read_to_string(&path).unwrap(), "b\n");
        let elsewhere = held.path().join("elsewhere");
        fs_err::rename(&path, &elsewhere).unwrap();
        std::os::unix::fs::symlink(&elsewhere, &path).unwrap();
        assert!(writer.append("c\n").is_err());
        assert_eq!(fs_err::read_to_string(&elsewhere).unwrap(), "b\n");
    }
}
