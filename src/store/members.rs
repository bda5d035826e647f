//! Who members are, and what each moved itself: kept so that it is known without those who told it, and so that no
//! counter falls when they tell something else.

use std::collections::BTreeMap;

use anyhow::{Context, Result};
use rusqlite::{Connection, Row, params};

use super::add::Finder;
use super::table::{ADDRESS_NAME, ASSIGNMENT, Damage, MEMBER, NETWORK, Puts};
use super::{NetworkId, Reader, Writer, blame, count, to_sql};
use crate::zerotier::members::Member;
use crate::zerotier::{Members, NodeId, Roster};

/// A member of one network, as the database knows it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct KeptMember {
    /// The network.
    pub network: NetworkId,
    /// Who.
    pub node: NodeId,
    /// Bytes that it sent itself, captured live.
    pub sent_bytes: u64,
    /// Bytes that it received itself.
    pub received_bytes: u64,
}

/// A member's row.
struct Kept {
    id: i64,
    network: i64,
    node: NodeId,
    name: String,
    told: i64,
    authorized: bool,
    sent_bytes: u64,
    received_bytes: u64,
}

impl Kept {
    fn read(row: &Row) -> Result<Self> {
        Ok(Kept {
            id: row.get(0)?,
            network: row.get(1)?,
            node: row.get_ref(2)?.as_str()?.parse().map_err(Damage)?,
            name: row.get(3)?,
            told: row.get(4)?,
            authorized: row.get(5)?,
            sent_bytes: count(row, 6)?,
            received_bytes: count(row, 7)?,
        })
    }

    fn put(&self, puts: &mut Puts, before: Option<i64>) -> Result<()> {
        let node = self.node.to_string();
        let (sent, received) = (to_sql(self.sent_bytes)?, to_sql(self.received_bytes)?);
        let authorized = i64::from(self.authorized);
        puts.put(before, &[&self.id, &self.network, &node, &self.name, &self.told, &authorized, &sent, &received])?;
        Ok(())
    }
}

/// Changes members' rows, or makes them.
fn change(
    conn: &Connection,
    network: NetworkId,
    nodes: impl IntoIterator<Item = NodeId>,
    mut how: impl FnMut(&mut Kept) -> Result<bool>,
) -> Result<()> {
    let mut select = conn.prepare_cached(&MEMBER.select("WHERE network = ?1 AND node = ?2"))?;
    let mut puts = Puts::new(conn, &MEMBER)?;
    let mut next = puts.next_id()?;
    for node in nodes {
        let mut found = select.query(params![network.0, node.to_string()])?;
        let (mut kept, before) = match found.next()? {
            Some(row) => (Kept::read(row)?, Some(MEMBER.verify(row)?)),
            None => {
                let name = String::new();
                let kept = Kept {
                    id: next,
                    network: network.0,
                    node,
                    name,
                    told: 0,
                    authorized: true,
                    sent_bytes: 0,
                    received_bytes: 0,
                };
                next += 1;
                (kept, None)
            }
        };
        drop(found);
        if how(&mut kept)? || before.is_none() {
            kept.put(&mut puts, before)?;
        }
    }
    puts.seal()
}

impl Writer {
    /// Keeps who the members of a network are.
    ///
    /// # Errors
    /// Outside a transaction, or if the database cannot be written. Then the whole transaction is rolled back.
    pub fn tell(&mut self, network: NetworkId, members: &Members) -> Result<()> {
        self.check_open()?;
        let told = tell(&self.conn, network, members).map_err(|error| blame(&self.path, "cannot write to", error));
        self.or_roll_back(told)
    }

    /// Adds to what members of a network moved themselves: bytes sent and received.
    ///
    /// # Errors
    /// As [`Writer::tell`].
    pub fn add_own(&mut self, network: NetworkId, own: &BTreeMap<NodeId, (u64, u64)>) -> Result<()> {
        self.check_open()?;
        let added = change(&self.conn, network, own.keys().copied(), |kept| {
            let (sent, received) = own.get(&kept.node).copied().unwrap_or_default();
            kept.sent_bytes = kept.sent_bytes.saturating_add(sent);
            kept.received_bytes = kept.received_bytes.saturating_add(received);
            Ok(true)
        });
        let added = added.map_err(|error| blame(&self.path, "cannot write to", error));
        self.or_roll_back(added)
    }

    /// What members moved themselves, in all networks.
    ///
    /// # Errors
    /// If the database is damaged or cannot be read.
    pub fn members(&self) -> Result<Vec<KeptMember>> {
        let mut found = Vec::new();
        let read = MEMBER.scan(&self.conn, |row| {
            let Kept { network, node, sent_bytes, received_bytes, .. } = Kept::read(row)?;
            found.push(KeptMember { network: NetworkId(network), node, sent_bytes, received_bytes });
            Ok(())
        });
        read.map_err(|error| blame(&self.path, "cannot read", error))?;
        Ok(found)
    }

    /// All that was told of members and addresses.
    ///
    /// # Errors
    /// As [`Writer::members`].
    pub fn roster(&self) -> Result<Roster> {
        roster(&self.conn).map_err(|error| blame(&self.path, "cannot read", error))
    }
}

impl Reader {
    /// All that was told of members and addresses.
    ///
    /// # Errors
    /// If the database cannot be read or is damaged.
    pub fn roster(&self) -> Result<Roster> {
        self.read(roster)
    }
}

fn tell(conn: &Connection, network: NetworkId, members: &Members) -> Result<()> {
    let mut ids = BTreeMap::new();
    change(conn, network, members.told().keys().copied(), |kept| {
        let Some(member) = members.told().get(&kept.node) else { return Ok(false) };
        ids.insert(kept.node, kept.id);
        let name = if member.name.is_empty() { &kept.name } else { &member.name };
        let told = kept.told.max(if member.listed { 2 } else { 1 });
        let authorized = member.authorized.unwrap_or(kept.authorized);
        let changed = (&kept.name, kept.told, kept.authorized) != (name, told, authorized);
        (kept.name, kept.told, kept.authorized) = (name.clone(), told, authorized);
        Ok(changed)
    })?;
    let mut assignment = Finder::new(conn, &ASSIGNMENT)?;
    for (node, member) in members.told() {
        let id = ids.get(node).context("a member has no row")?;
        for addr in &member.addresses {
            assignment.id(&[id, &addr.to_string()])?;
        }
    }
    assignment.puts.seal()?;
    name_addresses(conn, members)
}

fn name_addresses(conn: &Connection, members: &Members) -> Result<()> {
    let mut select = conn.prepare(&ADDRESS_NAME.select("WHERE addr = ?1"))?;
    let mut puts = Puts::new(conn, &ADDRESS_NAME)?;
    let mut next = puts.next_id()?;
    for (addr, name) in members.address_names() {
        let addr = addr.to_string();
        let mut found = select.query([&addr])?;
        let (id, before) = match found.next()? {
            Some(row) => {
                let checksum = ADDRESS_NAME.verify(row)?;
                if row.get_ref(2)?.as_str()? == name {
                    continue;
                }
                (row.get(0)?, Some(checksum))
            }
            None => {
                next += 1;
                (next - 1, None)
            }
        };
        drop(found);
        puts.put(before, &[&id, &addr, name])?;
    }
    puts.seal()
}

fn roster(conn: &Connection) -> Result<Roster> {
    let mut networks = BTreeMap::new();
    NETWORK.scan(conn, |row| {
        // One whose id is not known has no members.
        networks.insert(row.get::<_, i64>(0)?, row.get_ref(1)?.as_str()?.parse().ok());
        Ok(())
    })?;
    let mut addresses: BTreeMap<i64, Vec<_>> = BTreeMap::new();
    ASSIGNMENT.scan(conn, |row| {
        let addr = row.get_ref(2)?.as_str()?.parse().map_err(|_| Damage("an assignment of no address".to_owned()))?;
        addresses.entry(row.get(1)?).or_default().push(addr);
        Ok(())
    })?;
    let mut roster = Roster::default();
    MEMBER.scan(conn, |row| {
        let Kept { id, network, node, name, told, authorized, .. } = Kept::read(row)?;
        if let (1.., Some(network)) = (told, networks.get(&network).copied().flatten()) {
            let addresses = addresses.remove(&id).unwrap_or_default().into_iter().collect();
            roster.tell(
                Some(network),
                node,
                Member { name, addresses, authorized: Some(authorized), listed: told == 2 },
            );
        }
        Ok(())
    })?;
    ADDRESS_NAME.scan(conn, |row| {
        let addr = row.get_ref(1)?.as_str()?.parse().map_err(|_| Damage("the name of no address".to_owned()))?;
        roster.name_address(addr, row.get_ref(2)?.as_str()?);
        Ok(())
    })?;
    Ok(roster)
}
