//! Networks: everything under `/networks`.

use std::collections::BTreeMap;

use anyhow::Context as _;
use hyper::{Method, StatusCode};
use serde::Deserialize;
use serde_json::{Value, json};

use super::containers::connect::{self, Endpoint};
use super::error::ApiError;
use super::filters;
use super::reply::{Reply, empty, json, json_as, with_status};
use super::request::Call;
use super::router;
use super::state::Shared;
use crate::container::lifecycle;
use crate::container::members::{self, MemberError};
use crate::container::network_view::{self, RemoveError};
use crate::container::record::now_ns;
use crate::network::manage::{self, CreateError, NewNetwork};
use crate::network::record::ConnectError;
use crate::system::prune::{self as pruning, NetworkFilter};

/// Answers for `/networks…`.
pub async fn route(state: Shared, call: Call, rest: &[&str]) -> Reply {
    let method = call.method.clone();
    match (&method, rest) {
        (&Method::GET, []) => list(state, call).await,
        (&Method::POST, ["create"]) => create(state, call).await,
        (&Method::POST, ["prune"]) => prune(state, call).await,
        (&Method::GET, [name]) => inspect(state, name.to_string()).await,
        (&Method::DELETE, [name]) => remove(state, name.to_string()).await,
        (&Method::POST, [name, "connect"]) => connect(state, call, name.to_string()).await,
        (&Method::POST, [name, "disconnect"]) => disconnect(state, call, name.to_string()).await,
        _ => Err(router::no_such_page()),
    }
}

async fn list(state: Shared, call: Call) -> Reply {
    let filters = filters::parse(call.query.get("filters"))?;
    let rows = state
        .work(move |context| {
            let networks = network_view::list(context, &filters)?;
            let rows = networks
                .iter()
                .map(|network| network_view::value(context, network));
            Ok(rows.collect::<Result<Vec<_>, _>>()?)
        })
        .await?;
    Ok(json(&Value::Array(rows)))
}

async fn inspect(state: Shared, name: String) -> Reply {
    let value = state
        .work(move |context| {
            let network = context.find_network(&name)?.map_err(of_connect)?;
            Ok(network_view::value(context, &network)?)
        })
        .await?;
    Ok(json(&value))
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Asked {
    name: Option<String>,
    driver: Option<String>,
    internal: Option<bool>,
    #[serde(rename = "EnableIPv6")]
    ipv6: Option<bool>,
    #[serde(rename = "IPAM")]
    ipam: Option<Ipam>,
    options: Option<BTreeMap<String, String>>,
    labels: Option<BTreeMap<String, String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Ipam {
    config: Option<Vec<Pool>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Pool {
    #[serde(rename = "Subnet")]
    subnet: Option<String>,
    #[serde(rename = "IPRange")]
    range: Option<String>,
    #[serde(rename = "Gateway")]
    gateway: Option<String>,
    #[serde(rename = "AuxiliaryAddresses")]
    auxiliary: Option<BTreeMap<String, String>>,
}

impl Asked {
    fn complete(self) -> anyhow::Result<NewNetwork> {
        let driver = self.driver.unwrap_or_default();
        anyhow::ensure!(
            matches!(driver.as_str(), "" | "default" | "bridge"),
            "network driver {driver:?} is not there, use bridge"
        );
        let pools = self.ipam.unwrap_or_default().config.unwrap_or_default();
        let filled = |text: &Option<String>| text.clone().filter(|text| !text.is_empty());
        let mut asked = NewNetwork {
            name: self.name.unwrap_or_default(),
            ipv6: self.ipv6.unwrap_or(false),
            internal: self.internal.unwrap_or(false),
            labels: self.labels.unwrap_or_default(),
            options: self.options.unwrap_or_default(),
            ..NewNetwork::default()
        };
        for pool in &pools {
            let wrong = || format!("invalid address in {pool:?}");
            if let Some(subnet) = filled(&pool.subnet) {
                asked.subnets.push(subnet.parse().with_context(wrong)?);
            }
            if let Some(gateway) = filled(&pool.gateway) {
                asked.gateways.push(gateway.parse().with_context(wrong)?);
            }
            for (name, address) in pool.auxiliary.iter().flatten() {
                let address = address.parse().with_context(wrong)?;
                asked.auxiliary.insert(name.clone(), address);
            }
            if let Some(range) = filled(&pool.range) {
                asked.range = Some(range.parse().with_context(wrong)?);
            }
        }
        Ok(asked)
    }
}

async fn create(state: Shared, mut call: Call) -> Reply {
    let asked: Asked = call.json().await?;
    let asked = asked.complete()?;
    let id = state
        .work(move |context| {
            let made = manage::create(context, &asked, now_ns());
            Ok(made.map_err(of_create)?.id)
        })
        .await?;
    Ok(json_as(
        StatusCode::CREATED,
        &json!({"Id": id, "Warning": ""}),
    ))
}

fn of_create(error: CreateError) -> ApiError {
    let status = match error {
        CreateError::Exists(_) => StatusCode::CONFLICT,
        CreateError::Predefined(_) | CreateError::Overlap { .. } => StatusCode::FORBIDDEN,
        CreateError::Store(_) | CreateError::Io(_) => StatusCode::INTERNAL_SERVER_ERROR,
        _ => StatusCode::BAD_REQUEST,
    };
    ApiError::new(status, error.to_string())
}

fn of_connect(error: ConnectError) -> ApiError {
    let status = match error {
        ConnectError::NoNetwork(_) => StatusCode::NOT_FOUND,
        _ => StatusCode::BAD_REQUEST,
    };
    ApiError::new(status, error.to_string())
}

fn of_member(error: MemberError) -> ApiError {
    match error {
        MemberError::Connect(error) => of_connect(error),
        MemberError::Store(error) => error.into(),
        error => ApiError::new(StatusCode::FORBIDDEN, error.to_string()),
    }
}

async fn remove(state: Shared, name: String) -> Reply {
    state
        .work(move |context| {
            network_view::remove(context, &name).map_err(|error| {
                let status = match error {
                    RemoveError::Missing(_) => StatusCode::NOT_FOUND,
                    RemoveError::Predefined(_) | RemoveError::InUse { .. } => StatusCode::FORBIDDEN,
                    RemoveError::Store(_) => StatusCode::INTERNAL_SERVER_ERROR,
                };
                ApiError::new(status, error.to_string())
            })
        })
        .await?;
    Ok(empty())
}

#[derive(Debug, Default, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
struct Member {
    container: Option<String>,
    endpoint_config: Option<Endpoint>,
}

impl Member {
    fn name(&self) -> Result<String, ApiError> {
        let name = self.container.clone().filter(|name| !name.is_empty());
        name.ok_or_else(|| ApiError::bad("no container given"))
    }
}

async fn connect(state: Shared, mut call: Call, network: String) -> Reply {
    let asked: Member = call.json().await?;
    let name = asked.name()?;
    let attachment = connect::attachment(network, asked.endpoint_config.unwrap_or_default())?;
    state
        .work(move |context| {
            let container = lifecycle::find(context, &name)?;
            members::connect(context, &container, &attachment).map_err(of_member)
        })
        .await?;
    Ok(with_status(StatusCode::OK))
}

async fn disconnect(state: Shared, mut call: Call, network: String) -> Reply {
    let asked: Member = call.json().await?;
    let name = asked.name()?;
    state
        .work(move |context| {
            let container = lifecycle::find(context, &name)?;
            members::disconnect(context, &container, &network).map_err(of_member)
        })
        .await?;
    Ok(with_status(StatusCode::OK))
}

async fn prune(state: Shared, call: Call) -> Reply {
    let filters = filters::parse(call.query.get("filters"))?;
    let filter = NetworkFilter::parse(&filters).map_err(|e| ApiError::bad(e.to_string()))?;
    let pruned = state
        .work(move |context| Ok(pruning::networks(context, &filter)?))
        .await?;
    Ok(json(&json!({"NetworksDeleted": pruned.removed})))
}
