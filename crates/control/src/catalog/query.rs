//! Which records: conditions on columns, joined by AND.
//!
//! Invariant: column names and fragments are `'static` texts of this crate; everything that came
//! from outside is bound as a parameter.

use std::fmt::Write as _;
use std::marker::PhantomData;

use sqlx::AssertSqlSafe;
use sqlx::query::Query as SqlQuery;
use sqlx::sqlite::SqliteArguments;
use uuid::Uuid;

use super::record::Record;

/// What a column holds.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(crate) enum Value {
    Text(String),
    Int(i64),
    Null,
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::Text(text.to_owned())
    }
}
impl From<Uuid> for Value {
    fn from(id: Uuid) -> Self {
        Self::Text(id.to_string())
    }
}
impl From<u64> for Value {
    fn from(number: u64) -> Self {
        // Numbers here are milliseconds and bytes of volumes, far below the limit.
        Self::Int(i64::try_from(number).unwrap_or(i64::MAX))
    }
}
impl From<bool> for Value {
    fn from(yes: bool) -> Self {
        Self::Int(i64::from(yes))
    }
}
impl<T: Into<Self>> From<Option<T>> for Value {
    fn from(value: Option<T>) -> Self {
        value.map_or(Self::Null, Into::into)
    }
}

macro_rules! value_from_ids {
    ($($id:ident),*) => {$(
        impl From<model::id::$id> for Value {
            fn from(id: model::id::$id) -> Self {
                id.0.into()
            }
        }
    )*};
}
value_from_ids!(
    ProjectId,
    UserId,
    VolumeTypeId,
    PoolId,
    VolumeId,
    SnapshotId,
    HostId,
    AttachmentId,
    NetworkId
);

pub(crate) type Sql<'q> = SqlQuery<'q, sqlx::Sqlite, SqliteArguments>;

/// A statement with its values bound, ready to run.
pub(crate) fn bound<'q>(sql: String, values: Vec<Value>) -> Sql<'q> {
    values.into_iter().fold(sqlx::query(AssertSqlSafe(sql)), |query, value| match value {
        Value::Text(text) => query.bind(text),
        Value::Int(number) => query.bind(number),
        Value::Null => query.bind(None::<String>),
    })
}

/// Records of one table.
pub(crate) struct Query<R> {
    conditions: String,
    values: Vec<Value>,
    newest_first: bool,
    limit: Option<u32>,
    record: PhantomData<fn() -> R>,
}

impl<R: Record> Query<R> {
    /// All of them, oldest first.
    pub(crate) fn all() -> Self {
        Self {
            conditions: String::new(),
            values: Vec::new(),
            newest_first: false,
            limit: None,
            record: PhantomData,
        }
    }

    fn and(mut self, column: &'static str, relation: &'static str, value: Value) -> Self {
        self.values.push(value);
        let joint = if self.conditions.is_empty() { "WHERE" } else { "AND" };
        let number = self.values.len();
        write!(self.conditions, " {joint} {column} {relation} ${number}")
            .expect("writing to a String cannot fail");
        self
    }

    pub(crate) fn eq(self, column: &'static str, value: impl Into<Value>) -> Self {
        self.and(column, "=", value.into())
    }
    pub(crate) fn at_least(self, column: &'static str, value: impl Into<Value>) -> Self {
        self.and(column, ">=", value.into())
    }
    pub(crate) fn less(self, column: &'static str, value: impl Into<Value>) -> Self {
        self.and(column, "<", value.into())
    }
    /// Where a value is given.
    pub(crate) fn maybe(self, column: &'static str, value: Option<impl Into<Value>>) -> Self {
        match value {
            Some(value) => self.eq(column, value),
            None => self,
        }
    }
    /// A fragment of ours that ends where its one parameter goes, and the text after it.
    pub(crate) fn fragment(
        mut self,
        before: &'static str,
        value: impl Into<Value>,
        after: &'static str,
    ) -> Self {
        self = self.and(before, "", value.into());
        self.conditions.push_str(after);
        self
    }
    /// One of these values; at most a page of them or so, since each is a parameter.
    pub(crate) fn one_of(
        mut self,
        column: &'static str,
        values: impl IntoIterator<Item = impl Into<Value>>,
    ) -> Self {
        let joint = if self.conditions.is_empty() { "WHERE" } else { "AND" };
        let numbers: Vec<String> = values
            .into_iter()
            .map(|value| {
                self.values.push(value.into());
                format!("${}", self.values.len())
            })
            .collect();
        write!(self.conditions, " {joint} {column} IN ({})", numbers.join(", "))
            .expect("writing to a String cannot fail");
        self
    }
    pub(crate) fn null(mut self, column: &'static str) -> Self {
        let joint = if self.conditions.is_empty() { "WHERE" } else { "AND" };
        write!(self.conditions, " {joint} {column} IS NULL")
            .expect("writing to a String cannot fail");
        self
    }
    /// Those after the one with this id, in the order asked for.
    pub(crate) fn after(self, id: Uuid) -> Self {
        let relation = if self.newest_first { "<" } else { ">" };
        self.and("id", relation, id.into())
    }
    pub(crate) fn newest_first(mut self) -> Self {
        self.newest_first = true;
        self
    }
    pub(crate) fn limit(mut self, entries: u32) -> Self {
        self.limit = Some(entries);
        self
    }

    /// `SELECT what FROM table ...`, in order.
    pub(super) fn into_select<'q>(self, what: &'static str) -> Sql<'q> {
        let order = if self.newest_first { "DESC" } else { "ASC" };
        let limit = self.limit.map_or_else(String::new, |limit| format!(" LIMIT {limit}"));
        let sql = format!(
            "SELECT {what} FROM {}{} ORDER BY id {order}{limit}",
            R::TABLE,
            self.conditions
        );
        bound(sql, self.values)
    }

    /// `DELETE` of all that match, the first in order where there is a limit.
    pub(super) fn into_delete<'q>(self) -> Sql<'q> {
        let limit = self.limit.map_or_else(String::new, |limit| format!(" LIMIT {limit}"));
        let (table, conditions) = (R::TABLE, self.conditions);
        let which = format!("SELECT id FROM {table}{conditions} ORDER BY id{limit}");
        bound(format!("DELETE FROM {table} WHERE id IN ({which})"), self.values)
    }

    /// One number over all that match, or all distinct words.
    pub(super) fn into_total<'q>(self, what: &'static str) -> Sql<'q> {
        bound(format!("SELECT {what} FROM {}{}", R::TABLE, self.conditions), self.values)
    }
}
