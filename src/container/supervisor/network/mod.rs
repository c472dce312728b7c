//! The container's networks, as long as it runs: ports of the host, and a link to the holder for
//! each network that it is in.

mod kept;

use std::collections::HashSet;
use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::rc::Rc;
use std::sync::Arc;

use guest_agent::protocol::{Interface as GuestInterface, Request, Vlan};
use tokio::task::{JoinHandle, spawn_blocking};
use vmm::NetworkPlace;

use super::hub::Hub;
use super::stop;
use crate::container::network::{self, LostLinks, Member, NetworkPlan};
use crate::network::link::{Link, LinkError};
use crate::network::ports::Bound;
use crate::network::publish::{self, PublishError};
use crate::network::wire::{Interface, LinkRequest, Published};
use crate::store::Paths;
use kept::{Kept, Terms};

/// What a running container has of networks.
#[derive(Debug)]
pub struct Networking {
    paths: Paths,
    /// What all links have in common.
    common: LinkRequest,
    /// The hardware addresses of the machine's interfaces; the first carries later networks.
    interfaces: Vec<[u8; 6]>,
    optional: bool,
    ports: Vec<Published>,
    sockets: Arc<Vec<OwnedFd>>,
    bound: Vec<Bound>,
    members: Vec<Joined>,
    entrance: Option<Entrance>,
    first: Option<JoinHandle<Result<Vec<Link>, LinkError>>>,
}

/// A network that the container is in.
#[derive(Debug)]
struct Joined {
    member: Member,
    place: NetworkPlace,
    /// Missing while there are no networks at all.
    link: Option<Kept>,
}

/// The way of the published ports into the container.
#[derive(Debug)]
struct Entrance {
    target: Ipv4Addr,
    link: Option<Kept>,
}

impl Networking {
    /// Binds the ports.
    pub fn prepare(plan: NetworkPlan, paths: &Paths) -> Result<Self, PublishError> {
        let publish = plan.carrier.map_or(&[][..], |_| &plan.publish);
        let ports = publish::bind(publish)?;
        let interfaces = plan.macs();
        let joined = |(interface, member)| Joined {
            member,
            place: NetworkPlace::interface(interface),
            link: None,
        };
        let members: Vec<Joined> = plan.members.into_iter().enumerate().map(joined).collect();
        let mut networking = Self {
            paths: paths.clone(),
            common: plan.request,
            interfaces,
            optional: plan.optional,
            ports: ports.published,
            sockets: Arc::new(ports.sockets),
            bound: ports.bound,
            members,
            entrance: None,
            first: None,
        };
        networking.entrance = networking
            .target()
            .map(|target| Entrance { target, link: None });
        Ok(networking)
    }

    /// The bound ports.
    pub fn bound(&self) -> &[Bound] {
        &self.bound
    }

    /// Where published ports lead, when there are any.
    fn target(&self) -> Option<Ipv4Addr> {
        let first = self.members.first().filter(|_| !self.ports.is_empty())?;
        Some(first.member.interface.ipv4)
    }

    fn member_terms(&self, interface: &Interface) -> Arc<Terms> {
        Arc::new(Terms {
            paths: self.paths.clone(),
            request: LinkRequest {
                interfaces: vec![interface.clone()],
                ..self.common.clone()
            },
            sockets: Arc::default(),
        })
    }

    fn entrance_terms(&self, target: Ipv4Addr) -> Arc<Terms> {
        Arc::new(Terms {
            paths: self.paths.clone(),
            request: LinkRequest {
                ports: self.ports.clone(),
                target: Some(target),
                ..self.common.clone()
            },
            sockets: self.sockets.clone(),
        })
    }

    /// Begins to connect, while the guest boots.
    pub fn begin(&mut self) {
        let members = self.members.iter();
        let mut terms: Vec<_> = members
            .map(|joined| self.member_terms(&joined.member.interface))
            .collect();
        terms.extend(
            self.entrance
                .as_ref()
                .map(|e| self.entrance_terms(e.target)),
        );
        if !terms.is_empty() {
            let all = move || terms.iter().map(|terms| terms.establish()).collect();
            self.first = Some(spawn_blocking(all));
        }
    }

    /// Finishes connecting; the sentences are for the user.
    pub async fn connect(&mut self, hub: &Rc<Hub>) -> Result<Vec<String>, String> {
        let Some(first) = self.first.take() else {
            return Ok(Vec::new());
        };
        let links = match first.await {
            Ok(Ok(links)) => links,
            Ok(Err(error)) if self.optional => {
                return Ok(vec![format!("the container has no network: {error}")]);
            }
            Ok(Err(error)) => return Err(error.to_string()),
            Err(error) => return Err(format!("connecting the container: {error}")),
        };
        let mut warnings = Vec::new();
        let mut links = links.into_iter();
        for number in 0..self.members.len() {
            if let (Some(joined), Some(link)) = (self.members.get(number), links.next()) {
                for warning in &link.warnings {
                    if !warnings.contains(warning) {
                        warnings.push(warning.clone());
                    }
                }
                let terms = self.member_terms(&joined.member.interface);
                let kept = Kept::begin(terms, hub, link, Some(joined.place)).map_err(failed)?;
                if let Some(joined) = self.members.get_mut(number) {
                    joined.link = Some(kept);
                }
            }
        }
        if let (Some(target), Some(link)) = (self.target(), links.next()) {
            let kept = Kept::begin(self.entrance_terms(target), hub, link, None).map_err(failed)?;
            self.entrance = Some(Entrance {
                target,
                link: Some(kept),
            });
        }
        Ok(warnings)
    }

    /// Gives everything back. Published ports are free when this returns, so that the next
    /// start can have them.
    pub async fn leave(self) {
        for link in self.members.into_iter().filter_map(|joined| joined.link) {
            link.let_go();
        }
        if let Some(link) = self.entrance.and_then(|entrance| entrance.link) {
            link.end().await;
        }
    }

    /// The container is to be in these networks now, and be called so there.
    async fn change(&mut self, hub: &Rc<Hub>, wanted: Vec<Member>) -> Result<(), String> {
        let macs: HashSet<_> = wanted.iter().map(|member| member.interface.mac).collect();
        let (kept, gone): (Vec<_>, Vec<_>) = std::mem::take(&mut self.members)
            .into_iter()
            .partition(|joined| macs.contains(&joined.member.interface.mac));
        self.members = kept;
        let mut problem = None;
        for joined in gone {
            problem = self.part(hub, joined).await.err().or(problem);
        }
        let mut members: Vec<Joined> = Vec::with_capacity(wanted.len());
        for member in wanted {
            let mac = member.interface.mac;
            let of = |joined: &Joined| joined.member.interface.mac == mac;
            let known = self.members.iter().position(of);
            let mut joined = match known {
                Some(place) => self.members.remove(place),
                None => {
                    let others = self.members.iter().chain(&members);
                    Joined {
                        member: member.clone(),
                        place: self.place(mac, others.map(|joined| joined.place).collect()),
                        link: None,
                    }
                }
            };
            let renewed = self.renew(hub, &mut joined, member).await;
            problem = renewed.err().or(problem);
            if known.is_some() || joined.link.is_some() {
                members.push(joined);
            }
        }
        self.members = members;
        problem = self.move_entrance(hub).await.err().or(problem);
        match problem {
            Some(problem) => Err(problem),
            None => Ok(()),
        }
    }

    /// Where a network that is joined now comes to the guest: to the interface that has its
    /// hardware address, which left that network before, or as a VLAN.
    fn place(&self, mac: [u8; 6], taken: HashSet<NetworkPlace>) -> NetworkPlace {
        if let Some(interface) = self.interfaces.iter().position(|own| *own == mac) {
            return NetworkPlace::interface(interface);
        }
        let vlans = (1..u16::MAX).map(|vlan| NetworkPlace { interface: 0, vlan });
        // There are far fewer networks than numbers.
        let mut free = vlans.filter(|place| !taken.contains(place));
        free.next().unwrap_or(NetworkPlace::interface(0))
    }

    /// Takes the container out of a network.
    async fn part(&self, hub: &Rc<Hub>, joined: Joined) -> Result<(), String> {
        if let Some(link) = joined.link {
            link.end().await;
        }
        if let Some(machine) = &*hub.machine.borrow() {
            machine
                .connect_network(joined.place, None)
                .map_err(failed)?;
        }
        let unused = GuestInterface {
            ipv4: None,
            ipv6: None,
            ..joined.member.guest
        };
        self.tell(hub, joined.place, unused).await
    }

    /// Brings the container into a network, or what it is there up to date. What fails leaves
    /// it as it was.
    async fn renew(
        &self,
        hub: &Rc<Hub>,
        joined: &mut Joined,
        wanted: Member,
    ) -> Result<(), String> {
        let is_new = joined.link.is_none();
        match &joined.link {
            None => {
                let terms = self.member_terms(&wanted.interface);
                let link = terms.ask().await?;
                let link = Kept::begin(terms, hub, link, Some(joined.place)).map_err(failed)?;
                joined.link = Some(link);
            }
            Some(link) if joined.member.interface.names != wanted.interface.names => {
                link.rename(wanted.interface.names.clone()).await;
            }
            Some(_) => {}
        }
        let told = self.tell(hub, joined.place, wanted.guest.clone()).await;
        if let (true, Err(_)) = (is_new, &told)
            && let Some(link) = joined.link.take()
        {
            link.end().await;
            return told;
        }
        joined.member = wanted;
        told
    }

    /// Lets published ports lead to the first network that is left.
    async fn move_entrance(&mut self, hub: &Rc<Hub>) -> Result<(), String> {
        let target = self.target();
        let same = |e: &Entrance| e.link.is_some() && Some(e.target) == target;
        if self.entrance.as_ref().is_some_and(same) {
            return Ok(());
        }
        if let Some(link) = self.entrance.take().and_then(|entrance| entrance.link) {
            link.end().await;
        }
        if let Some(target) = target {
            let terms = self.entrance_terms(target);
            let link = terms.ask().await?;
            let link = Kept::begin(terms, hub, link, None).map_err(failed)?;
            self.entrance = Some(Entrance {
                target,
                link: Some(link),
            });
        }
        Ok(())
    }

    /// Tells the guest how an interface is to be.
    async fn tell(
        &self,
        hub: &Hub,
        place: NetworkPlace,
        mut interface: GuestInterface,
    ) -> Result<(), String> {
        if place.vlan != 0 {
            let carrier = *self
                .interfaces
                .first()
                .ok_or("the guest has no interface")?;
            interface.over = Some(Vlan {
                carrier,
                number: place.vlan,
            });
        }
        stop::ask(hub, Request::Network(interface))
            .await
            .map_err(failed)
    }
}

/// The store has other networks for the container.
pub async fn refresh(hub: &Rc<Hub>) -> Result<(), String> {
    // The guest listens once the container has been started, or will never.
    let started = hub.progress();
    let _ = started.clone().wait_for(|p| p.started.is_some()).await;
    let mut network = hub.network.lock().await;
    let Some(networking) = network.as_mut() else {
        // The next run finds it.
        return Ok(());
    };
    let record = &hub.record;
    record.refresh().map_err(|error| format!("{error:#}"))?;
    let connected = network::connected(record.store(), &record.get(), LostLinks::LeftOut)
        .map_err(|error| error.to_string())?;
    networking.change(hub, connected.plan.members).await
}

fn failed(error: std::io::Error) -> String {
    format!("connecting the guest: {error}")
}
