//! Reading and writing records: one JSON body and the columns derived from it.

use std::collections::{BTreeSet, HashMap};

use model::event::ResourceKind;
use model::id::ProjectId;
use serde::Serialize;
use serde::de::DeserializeOwned;
use sqlx::{Executor, Row};
use uuid::Uuid;

use super::query::{Query, Value, bound};
use super::sqlite::Connection;
use crate::error::{ControlError, Result};

/// A row of one table. The columns are derived from the record at every write, so that they
/// cannot say something else than the body.
pub(crate) trait Record: Serialize + DeserializeOwned + Send + Sync + 'static {
    const KIND: ResourceKind;
    const TABLE: &'static str;
    /// All columns but `id` and `body`.
    const COLUMNS: &'static [&'static str];

    fn id(&self) -> Uuid;
    /// For people and events.
    fn name(&self) -> String;
    /// The project that it belongs to, if any.
    fn project(&self) -> Option<ProjectId>;
    /// In the order of `COLUMNS`.
    fn columns(&self) -> Vec<Value>;
    /// May be found by name or id?
    fn is_listed(&self) -> bool {
        true
    }
}

fn body<R: Record>(record: &R) -> Result<Value> {
    serde_json::to_string(record).map(Value::Text).map_err(|error| corrupt::<R>(&error))
}

fn corrupt<R: Record>(error: &serde_json::Error) -> ControlError {
    ControlError::CorruptRecord { kind: R::TABLE, why: error.to_string() }
}

/// Write a new record.
pub(crate) async fn insert<R: Record>(on: &mut Connection, record: &R) -> Result<()> {
    let names = R::COLUMNS.join(", ");
    let numbers: Vec<String> = (3..3 + R::COLUMNS.len()).map(|n| format!(", ${n}")).collect();
    let comma = if R::COLUMNS.is_empty() { "" } else { ", " };
    let sql = format!(
        "INSERT INTO {} (id, body{comma}{names}) VALUES ($1, $2{})",
        R::TABLE,
        numbers.concat()
    );
    let mut values = vec![record.id().into(), body(record)?];
    values.extend(record.columns());
    on.execute(bound(sql, values)).await?;
    Ok(())
}

/// Write a record that is there.
pub(crate) async fn update<R: Record>(on: &mut Connection, record: &R) -> Result<()> {
    let sets: Vec<String> = R::COLUMNS
        .iter()
        .zip(3..)
        .map(|(name, n): (_, usize)| format!(", {name} = ${n}"))
        .collect();
    let sql = format!("UPDATE {} SET body = $2{} WHERE id = $1", R::TABLE, sets.concat());
    let mut values = vec![record.id().into(), body(record)?];
    values.extend(record.columns());
    on.execute(bound(sql, values)).await?;
    Ok(())
}

/// Remove a record; gone already is fine.
pub(crate) async fn delete<R: Record>(on: &mut Connection, id: Uuid) -> Result<()> {
    let sql = format!("DELETE FROM {} WHERE id = $1", R::TABLE);
    on.execute(bound(sql, vec![id.into()])).await?;
    Ok(())
}

/// A fact of the catalog that is no resource.
pub(crate) async fn fact(on: &mut Connection, name: &str) -> Result<Option<String>> {
    let query = sqlx::query("SELECT value FROM facts WHERE name = $1").bind(name);
    let row = on.fetch_optional(query).await?;
    Ok(row.map(|row| row.try_get(0)).transpose()?)
}

/// Write such a fact, whatever it was before.
pub(crate) async fn set_fact(on: &mut Connection, name: &str, value: &str) -> Result<()> {
    let sql = "INSERT INTO facts (name, value) VALUES ($1, $2)
        ON CONFLICT (name) DO UPDATE SET value = excluded.value";
    on.execute(sqlx::query(sql).bind(name).bind(value)).await?;
    Ok(())
}

/// Remove all records that match, up to the query's limit; gives their number.
pub(crate) async fn delete_all<R: Record>(on: &mut Connection, query: Query<R>) -> Result<u64> {
    Ok(on.execute(query.into_delete()).await?.rows_affected())
}

/// The record with this id.
pub(crate) async fn get<R: Record>(on: &mut Connection, id: Uuid) -> Result<Option<R>> {
    Ok(select(on, Query::all().eq("id", id)).await?.pop())
}

/// All records that match, in order.
pub(crate) async fn select<R: Record>(on: &mut Connection, query: Query<R>) -> Result<Vec<R>> {
    let rows = on.fetch_all(query.into_select("body")).await?;
    rows.iter()
        .map(|row| {
            let body: &str = row.try_get(0)?;
            serde_json::from_str(body).map_err(|error| corrupt::<R>(&error))
        })
        .collect()
}

/// Two columns of all records that match, in order, without reading their bodies; `columns` is
/// `first, second`.
pub(crate) async fn pairs<R: Record>(
    on: &mut Connection,
    query: Query<R>,
    columns: &'static str,
) -> Result<Vec<(String, String)>> {
    let rows = on.fetch_all(query.into_select(columns)).await?;
    rows.iter().map(|row| Ok((row.try_get(0)?, row.try_get(1)?))).collect()
}

/// The names of the records with these ids; an id may come several times.
pub(crate) async fn names<R: Record>(
    on: &mut Connection,
    ids: impl IntoIterator<Item = Uuid>,
) -> Result<HashMap<Uuid, String>> {
    let ids: BTreeSet<Uuid> = ids.into_iter().collect();
    let found = pairs(on, Query::<R>::all().one_of("id", ids), "id, name").await?;
    found.into_iter().map(|(id, name)| Ok((parse_id::<R>(&id)?, name))).collect()
}

/// An id as columns hold it.
pub(crate) fn parse_id<R: Record>(text: &str) -> Result<Uuid> {
    Uuid::parse_str(text).map_err(|_| ControlError::CorruptRecord {
        kind: R::TABLE,
        why: format!("'{text}' is not an id"),
    })
}

/// The distinct words of a column; `distinct` is `DISTINCT column`.
pub(crate) async fn words<R: Record>(
    on: &mut Connection,
    query: Query<R>,
    distinct: &'static str,
) -> Result<Vec<String>> {
    let rows = on.fetch_all(query.into_total(distinct)).await?;
    rows.iter().map(|row| Ok(row.try_get(0)?)).collect()
}

/// How many match.
pub(crate) async fn count<R: Record>(on: &mut Connection, query: Query<R>) -> Result<u64> {
    total(on, query, "COUNT(*)").await
}

/// Sum of a column over all that match; `expression` is `COALESCE(SUM(column), 0)`.
pub(crate) async fn sum<R: Record>(
    on: &mut Connection,
    query: Query<R>,
    expression: &'static str,
) -> Result<u64> {
    total(on, query, expression).await
}

/// The least of a column over all that match; `expression` is `COALESCE(MIN(column), NUMBER)`.
pub(crate) async fn least<R: Record>(
    on: &mut Connection,
    query: Query<R>,
    expression: &'static str,
) -> Result<u64> {
    total(on, query, expression).await
}

async fn total<R: Record>(
    on: &mut Connection,
    query: Query<R>,
    expression: &'static str,
) -> Result<u64> {
    let row = on.fetch_one(query.into_total(expression)).await?;
    let total: i64 = row.try_get(0)?;
    Ok(u64::try_from(total).unwrap_or(0))
}
