//! The door to nftables: which of our tables are there and right, and their replacement in one transaction.

use super::command;
use super::tables::{Named, NftTable, STREAMS, VRRP};
use crate::model::Interface;
use serde_json::Value;
use std::collections::BTreeMap;

/// What the kernel was set to before, by interface.
pub(super) const BEFORE: Named = Named("inet", "hapilot_before");
const MAP: &str = "settings";

/// Our tables as they are: the comments of their rules.
#[derive(Debug, Default)]
pub(super) struct Tables {
    vrrp: Option<Vec<String>>,
    streams: Option<Vec<String>>,
    has_before: bool,
}

impl Tables {
    /// # Errors
    /// nftables is missing, or may not be used.
    pub(super) async fn look() -> Result<Self, String> {
        let all = command::json("nft", &["-j", "list", "tables"]).await?;
        let is_there =
            |name: Named| items(&all, "table").any(|table| table["family"] == name.0 && table["name"] == name.1);
        let mut tables = Self { has_before: is_there(BEFORE), ..Self::default() };
        if is_there(VRRP) {
            tables.vrrp = Some(comments(VRRP).await?);
        }
        if is_there(STREAMS) {
            tables.streams = Some(comments(STREAMS).await?);
        }
        Ok(tables)
    }

    fn of(&self, name: Named) -> Option<&Vec<String>> {
        if name == VRRP { self.vrrp.as_ref() } else { self.streams.as_ref() }
    }

    pub(super) fn has(&self, name: Named) -> bool {
        self.of(name).is_some()
    }

    /// Whether the kernel holds this very table.
    pub(super) fn holds(&self, table: &NftTable) -> bool {
        self.of(table.named)
            .is_some_and(|marks| marks.len() == table.rules && marks.iter().all(|one| *one == table.mark))
    }
}

/// The comment of each rule, empty where it has none. What sets have learnt is not listed.
async fn comments(name: Named) -> Result<Vec<String>, String> {
    let listed = command::json("nft", &["-j", "-t", "list", "table", name.0, name.1]).await?;
    let comment = |rule: &Value| rule["comment"].as_str().unwrap_or_default().to_owned();
    Ok(items(&listed, "rule").map(comment).collect())
}

/// Puts a table in place of the one of its name, at once: no packet meets a half of it. What its sets have learnt is
/// forgotten.
pub(super) async fn replace(table: &NftTable) -> Result<(), String> {
    let NftTable { named, body, .. } = table;
    write(&format!("table {named}\ndelete table {named}\ntable {named} {{\n{body}}}\n")).await
}

/// Takes a table away, with all that is in it.
pub(super) async fn delete(name: Named) -> Result<(), String> {
    write(&format!("delete table {name}\n")).await
}

async fn write(text: &str) -> Result<(), String> {
    command::run("nft", &["--", text]).await.map(drop)
}

/// What [`keep`] kept.
pub(super) async fn kept(tables: &Tables) -> BTreeMap<Interface, u32> {
    if !tables.has_before {
        return BTreeMap::new();
    }
    let listed = command::json("nft", &["-j", "list", "table", BEFORE.0, BEFORE.1]).await.unwrap_or_default();
    let elements = items(&listed, "map").filter_map(|map| map["elem"].as_array()).flatten();
    let read = |element: &Value| {
        let value = u32::try_from(element[1].as_u64()?).ok()?;
        Some((element[0].as_str()?.parse().ok()?, value))
    };
    elements.filter_map(read).collect()
}

/// Keeps a number for each interface; none: the table goes away.
pub(super) async fn keep(numbers: &BTreeMap<Interface, u32>) -> Result<(), String> {
    let gone = format!("table {BEFORE}\ndelete table {BEFORE}\n");
    if numbers.is_empty() {
        return write(&gone).await;
    }
    let elements: Vec<String> = numbers.iter().map(|(name, number)| format!("\"{name}\" : {number}")).collect();
    let elements = elements.join(", ");
    let map = format!("map {MAP} {{\ntype ifname : mark\nelements = {{ {elements} }}\n}}");
    write(&format!("{gone}table {BEFORE} {{\n{map}\n}}\n")).await
}

/// The objects of one kind in what `nft -j` lists.
fn items<'a>(listed: &'a Value, kind: &'a str) -> impl Iterator<Item = &'a Value> {
    listed["nftables"].as_array().into_iter().flatten().filter_map(move |item| item.get(kind))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_right_with_all_its_rules_and_only_those() {
        let mark = "hapilot 0123";
        let table = NftTable { named: VRRP, mark: mark.to_owned(), rules: 2, body: String::new() };
        let with = |marks: &[&str]| Tables {
            vrrp: Some(marks.iter().map(ToString::to_string).collect()),
            ..Tables::default()
        };
        assert!(with(&[mark, mark]).holds(&table));
        for wrong in [&[mark][..], &[mark, ""], &[mark, mark, mark], &[mark, "hapilot 4567"], &[]] {
            assert!(!with(wrong).holds(&table), "{wrong:?}");
        }
        assert!(!Tables::default().holds(&table));
    }
}
