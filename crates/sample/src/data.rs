//! The made-up records of a made-up company, the same on every start.

use jiff::Timestamp;
use serde_json::{Map, Value, json};

/// The company's name.
pub(crate) const COMPANY: &str = "Kestrel & Finch Instruments";

/// One collection of records, in the order of their ids.
#[derive(Clone, Debug)]
pub(crate) struct Collection {
    pub(crate) name: &'static str,
    prefix: &'static str,
    next: usize,
    pub(crate) records: Vec<Map<String, Value>>,
}

/// All collections.
#[derive(Clone, Debug)]
pub(crate) struct Data(pub(crate) Vec<Collection>);

const FIRST: [&str; 12] = [
    "Ada", "Bruno", "Chidi", "Dana", "Elif", "Farid", "Greta", "Hugo", "Ines", "Jonas", "Keiko", "Lars",
];
const LAST: [&str; 7] = [
    "Abara", "Brandt", "Castell", "Duarte", "Eklund", "Fontaine", "Grieg",
];
const SUBJECT: [&str; 6] = [
    "Barometer",
    "Sextant",
    "Theodolite",
    "Hygrometer",
    "Compass",
    "Altimeter",
];
const TROUBLE: [&str; 5] = [
    "drifts",
    "sticks",
    "rattles",
    "reads low",
    "arrived without its case",
];
const STATE: [&str; 3] = ["open", "in_progress", "closed"];

impl Data {
    pub(crate) fn new() -> Self {
        let contacts = Collection::filled("contacts", "con", 53, |index| {
            let (first, last) = (FIRST[index % FIRST.len()], LAST[index % LAST.len()]);
            let email = format!(
                "{}.{}{index}@kestrel-finch.example",
                first.to_lowercase(),
                last.to_lowercase()
            );
            json!({ "first_name": first, "last_name": last, "email": email, "vip": index % 9 == 0 })
        });
        let issues = Collection::filled("issues", "iss", 57, |index| {
            let title = format!(
                "{} {}",
                SUBJECT[index % SUBJECT.len()],
                TROUBLE[index % TROUBLE.len()]
            );
            let contact = format!("con_{:04}", index % 53 + 1);
            json!({ "title": title, "state": STATE[index % STATE.len()], "contact_id": contact })
        });
        let invoices = Collection::filled("invoices", "inv", 41, |index| {
            let contact = format!("con_{:04}", index * 5 % 53 + 1);
            json!({ "number": 2000 + index, "amount_cents": 1_250 * (index + 1), "currency": "EUR", "contact_id": contact })
        });
        Self(vec![contacts, issues, invoices])
    }

    pub(crate) fn collection(&mut self, name: &str) -> Option<&mut Collection> {
        self.0.iter_mut().find(|collection| collection.name == name)
    }
}

impl Collection {
    fn filled(name: &'static str, prefix: &'static str, count: usize, make: impl Fn(usize) -> Value) -> Self {
        let mut collection = Self {
            name,
            prefix,
            next: 1,
            records: Vec::new(),
        };
        for index in 0..count {
            // A day apart, from the first of September 2025.
            let at = 1_756_684_800 + 86_400 * i64::try_from(index).unwrap_or_default();
            let at = Timestamp::from_second(at).unwrap_or(Timestamp::UNIX_EPOCH);
            if let Value::Object(fields) = make(index) {
                collection.add(fields, at);
            }
        }
        collection
    }

    /// Adds a record; its id and times are the collection's to set.
    pub(crate) fn add(&mut self, fields: Map<String, Value>, now: Timestamp) -> &Map<String, Value> {
        let mut record = Map::new();
        record.insert(
            "id".to_owned(),
            Value::String(format!("{}_{:04}", self.prefix, self.next)),
        );
        self.next += 1;
        merge(&mut record, fields);
        record.insert("created_at".to_owned(), Value::String(now.to_string()));
        record.insert("updated_at".to_owned(), Value::String(now.to_string()));
        self.records.push(record);
        self.records.last().expect("a record was just added")
    }

    pub(crate) fn find(&mut self, id: &str) -> Option<&mut Map<String, Value>> {
        self.records
            .iter_mut()
            .find(|record| record.get("id").and_then(Value::as_str) == Some(id))
    }

    /// Changes some fields of a record.
    pub(crate) fn change(
        &mut self,
        id: &str,
        fields: Map<String, Value>,
        now: Timestamp,
    ) -> Option<&Map<String, Value>> {
        let record = self.find(id)?;
        merge(record, fields);
        record.insert("updated_at".to_owned(), Value::String(now.to_string()));
        Some(record)
    }

    pub(crate) fn remove(&mut self, id: &str) -> bool {
        let before = self.records.len();
        self.records
            .retain(|record| record.get("id").and_then(Value::as_str) != Some(id));
        self.records.len() < before
    }
}

fn merge(record: &mut Map<String, Value>, fields: Map<String, Value>) {
    let given = fields
        .into_iter()
        .filter(|(name, _)| !matches!(name.as_str(), "id" | "created_at" | "updated_at"));
    record.extend(given);
}
