//! Networks: who may be a client of the file volumes that are put on them, and where.

use std::net::SocketAddr;

use model::event::ResourceKind;
use model::id::NetworkId;
use model::network::{Cidr, NETWORK_ADDRESSES_MAX, Network};
use model::user::Role;
use model::volume::Volume;

use crate::caller::Caller;
use crate::catalog::{self, Connection, Query};
use crate::error::{ControlError, Result};
use crate::export::names_network;
use crate::facade::{Control, invalid, name_is_free, resolve, valid_description, valid_name};
use crate::page::Page;
use crate::params::{NetworkCreate, NetworkFilter, NetworkUpdate};

fn bounded<T>(field: &'static str, entries: &[T]) -> Result<()> {
    if entries.len() <= NETWORK_ADDRESSES_MAX {
        return Ok(());
    }
    let why = format!(
        "it has {} entries, and at most {NETWORK_ADDRESSES_MAX} are allowed",
        entries.len()
    );
    Err(ControlError::Invalid { field, why })
}

fn valid_clients(texts: &[String]) -> Result<Vec<Cidr>> {
    bounded("clients", texts)?;
    texts.iter().map(|text| text.parse().map_err(invalid("clients"))).collect()
}

fn valid_portals(texts: &[String]) -> Result<Vec<SocketAddr>> {
    bounded("portals", texts)?;
    let parse = |text: &String| {
        text.trim().parse().map_err(|_| ControlError::Invalid {
            field: "portals",
            why: format!("'{text}' is not ADDRESS:PORT or [ADDRESS]:PORT"),
        })
    };
    texts.iter().map(parse).collect()
}

impl Control {
    /// # Errors
    /// Not an admin; a bad value; the name is taken.
    pub async fn network_create(&self, caller: &Caller, new: NetworkCreate) -> Result<Network> {
        caller.must_be(Role::Admin, "create networks")?;
        let name = valid_name(&new.name)?;
        let mut tx = self.inner.catalog.begin().await?;
        name_is_free::<Network>(&mut tx, Query::all(), &name, None).await?;
        let network = Network {
            id: NetworkId(self.inner.new_id()),
            name,
            description: valid_description(&new.description)?,
            clients: valid_clients(&new.clients)?,
            portals: valid_portals(&new.portals)?,
            created_ms: self.inner.now_ms(),
        };
        catalog::insert(&mut tx, &network).await?;
        self.inner.done(&mut tx, caller, &network, "network.create").await?;
        self.inner.commit(tx).await?;
        Ok(network)
    }

    /// # Errors
    /// Bad paging.
    pub async fn network_list(
        &self,
        _caller: &Caller,
        filter: &NetworkFilter,
    ) -> Result<Page<Network>> {
        let mut on = self.inner.catalog.read().await?;
        let query = Query::all().maybe("name", filter.name.as_deref());
        self.inner.page(&mut on, query, &filter.paging).await
    }

    /// # Errors
    /// No such network.
    pub async fn network_get(&self, caller: &Caller, network: &str) -> Result<Network> {
        let mut on = self.inner.catalog.read().await?;
        resolve(&mut on, caller, network).await
    }

    /// Who is no client any more is one no longer from the next call on.
    ///
    /// # Errors
    /// Not an admin; no such network; a bad value; the name is taken.
    pub async fn network_update(
        &self,
        caller: &Caller,
        network: &str,
        change: NetworkUpdate,
    ) -> Result<Network> {
        caller.must_be(Role::Admin, "change networks")?;
        let mut tx = self.inner.catalog.begin().await?;
        let mut network: Network = resolve(&mut tx, caller, network).await?;
        if let Some(name) = &change.name {
            network.name = valid_name(name)?;
            let id = Some(network.id.0);
            name_is_free::<Network>(&mut tx, Query::all(), &network.name, id).await?;
        }
        if let Some(description) = &change.description {
            network.description = valid_description(description)?;
        }
        if let Some(clients) = &change.clients {
            network.clients = valid_clients(clients)?;
        }
        if let Some(portals) = &change.portals {
            network.portals = valid_portals(portals)?;
        }
        catalog::update(&mut tx, &network).await?;
        self.inner.done(&mut tx, caller, &network, "network.update").await?;
        let touched = volumes_of(&mut tx, network.id).await?;
        self.inner.commit(tx).await?;
        self.renew(touched.into_iter().map(|volume| volume.id)).await?;
        Ok(network)
    }

    /// # Errors
    /// Not an admin; no such network; volumes are on it, or an access rule names it.
    pub async fn network_delete(&self, caller: &Caller, network: &str) -> Result<()> {
        caller.must_be(Role::Admin, "delete networks")?;
        let mut tx = self.inner.catalog.begin().await?;
        let network: Network = resolve(&mut tx, caller, network).await?;
        let users = volumes_of(&mut tx, network.id).await?;
        if !users.is_empty() {
            let names: Vec<String> = users.into_iter().map(|volume| volume.name).collect();
            return Err(ControlError::InUse {
                kind: ResourceKind::Network,
                name: network.name,
                by: format!("the volumes {}", crate::error::list(&names)),
            });
        }
        catalog::delete::<Network>(&mut tx, network.id.0).await?;
        self.inner.done(&mut tx, caller, &network, "network.delete").await?;
        self.inner.commit(tx).await
    }
}

/// The volumes that are on the network, or have an access rule that names it.
async fn volumes_of(on: &mut Connection, network: NetworkId) -> Result<Vec<Volume>> {
    let mut files = catalog::select(on, Query::<Volume>::all().eq("kind", "file")).await?;
    files.retain(|volume| {
        volume.export.as_ref().is_some_and(|export| names_network(export, network))
    });
    Ok(files)
}
