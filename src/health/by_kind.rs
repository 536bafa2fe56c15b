//! What is kept for each kind of probe that runs at a server. Two or three kinds run: a map would take room for eleven, at
//! thousands of servers.

use super::ProbeKind;

/// In the order of the kinds.
#[derive(Clone, Debug)]
pub(super) struct ByKind<T>(Vec<(ProbeKind, T)>);

impl<T> ByKind<T> {
    pub fn new() -> Self {
        Self(Vec::new())
    }

    fn place(&self, kind: ProbeKind) -> Result<usize, usize> {
        self.0.binary_search_by_key(&kind, |(own, _)| *own)
    }

    pub fn get(&self, kind: &ProbeKind) -> Option<&T> {
        self.place(*kind).ok().map(|at| &self.0[at].1)
    }

    pub fn get_mut(&mut self, kind: &ProbeKind) -> Option<&mut T> {
        self.place(*kind).ok().map(|at| &mut self.0[at].1)
    }

    /// What is there, or what is made now.
    pub fn get_or_insert_with(&mut self, kind: ProbeKind, make: impl FnOnce() -> T) -> &mut T {
        let at = self.place(kind).unwrap_or_else(|at| {
            self.0.reserve_exact(1);
            self.0.insert(at, (kind, make()));
            at
        });
        &mut self.0[at].1
    }

    pub fn retain(&mut self, keeps: impl Fn(ProbeKind) -> bool) {
        self.0.retain(|(kind, _)| keeps(*kind));
    }

    pub fn iter(&self) -> impl Iterator<Item = (&ProbeKind, &T)> {
        self.0.iter().map(|(kind, own)| (kind, own))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = (ProbeKind, &mut T)> {
        self.0.iter_mut().map(|(kind, own)| (*kind, own))
    }

    pub fn keys(&self) -> impl Iterator<Item = &ProbeKind> {
        self.iter().map(|(kind, _)| kind)
    }

    pub fn values(&self) -> impl Iterator<Item = &T> {
        self.iter().map(|(_, own)| own)
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.iter_mut().map(|(_, own)| own)
    }
}
