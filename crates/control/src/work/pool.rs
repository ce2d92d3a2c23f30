//! Opening and closing pools.

use model::event::EventResult;
use model::id::PoolId;
use model::order::{Order, OrderError};
use model::pool::{Pool, PoolState};

use super::Outcome;
use crate::caller::Caller;
use crate::catalog;
use crate::error::Result;
use crate::facade::Inner;

impl Inner {
    pub(super) async fn open_pool(&self, id: PoolId) -> Result<Outcome> {
        let Some(pool) = self.read_one::<Pool>(id.0).await? else { return Ok(Outcome::Nothing) };
        if pool.state == PoolState::Closing {
            return Ok(Outcome::Nothing);
        }
        let (driver, path) = (pool.driver, pool.path);
        let order =
            Order::OpenPool { pool: id, driver, path, io: pool.io, capacity: pool.capacity };
        let answer = self.order_at(id, order).await;
        let usage = match (&answer, self.link_at(id).await) {
            (Ok(_), Ok(link)) => link.pool_usage().await.unwrap_or_default(),
            _ => Vec::new(),
        };
        let mut tx = self.catalog.begin().await?;
        let Some(mut pool) = catalog::get::<Pool>(&mut tx, id.0).await? else {
            return Ok(Outcome::Nothing);
        };
        let (state, fault) = match &answer {
            Ok(_) => (PoolState::Online, None),
            Err(error) => (PoolState::Error, Some(error.to_string())),
        };
        let news = pool.state.may_become(state) || pool.fault != fault;
        if pool.state != PoolState::Closing {
            pool.state = state;
            pool.fault.clone_from(&fault);
        }
        if let Some(seen) = usage.iter().find(|usage| usage.pool == id) {
            pool.usage = Some(seen.into());
        }
        catalog::update(&mut tx, &pool).await?;
        if news {
            let result = if fault.is_none() { EventResult::Done } else { EventResult::Failed };
            let detail = fault.unwrap_or_default();
            self.record(&mut tx, &Caller::system(), &pool, "pool.open", result, detail).await?;
        }
        tx.commit().await?;
        match answer {
            Ok(report) => {
                self.board.confirm(id.0);
                Ok(Outcome::Done(Some(report)))
            }
            Err(error) => Ok(Outcome::Retry(error.into())),
        }
    }

    pub(super) async fn close_pool(&self, id: PoolId) -> Result<Outcome> {
        match self.order_at(id, Order::ClosePool { pool: id }).await {
            Ok(_) | Err(OrderError::Missing { .. }) => {}
            Err(error) => return Ok(Outcome::Retry(error.into())),
        }
        let mut tx = self.catalog.begin().await?;
        let Some(pool) = catalog::get::<Pool>(&mut tx, id.0).await? else {
            return Ok(Outcome::Nothing);
        };
        catalog::delete::<Pool>(&mut tx, id.0).await?;
        self.done(&mut tx, &Caller::system(), &pool, "pool.deleted").await?;
        tx.commit().await?;
        self.board.forget(id.0);
        Ok(Outcome::Done(None))
    }
}
