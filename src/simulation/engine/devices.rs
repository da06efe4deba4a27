//! Where replicas lie: nodes with room, nodes on order, and replicas that wait for either. Kept only where a
//! cluster asks for it.

use std::cmp::Ordering;
use std::collections::{BTreeMap, VecDeque};

use rand::RngExt;
use rand_xoshiro::Xoshiro256PlusPlus;

use super::state::Replica;
use crate::random;
use crate::replica_scheduler::Lane;
use crate::simulation::deployment::{Fit, NodePoolSettings, Placement, ScaleDownChoice};
use crate::simulation::{BillingUnit, RunInputs};

/// A replica as what deploys it sees it: a pod.
#[derive(Debug)]
struct Pod {
    created_at_s: f64,
    /// What decides among equals: random.
    uid: u64,
    /// Neither told to stop nor gone.
    active: bool,
    /// The nodes it lies on, if there are nodes.
    nodes: Vec<u32>,
}

#[derive(Debug, Default)]
struct Node {
    exists: bool,
    /// Replicas that lie on it.
    pods: u32,
    /// Those that are not told to stop.
    active: u32,
    /// How many were told to at which instant: one scale-down ranks all before the first goes.
    stopped: u32,
    stopped_at_s: f64,
    empty_since_s: f64,
    paid_from_s: f64,
}

/// A replica that waits for devices.
#[derive(Debug)]
struct Waiting {
    order: u64,
    pod: Pod,
    /// How long it takes to start once it has them.
    delay_s: f64,
}

/// What is to be done after something changed.
#[derive(Debug, Default)]
pub(super) struct Consequences {
    /// Orders that can start, and how long they take.
    pub starts: Vec<(u64, f64)>,
    /// Nodes that were ordered, to arrive after `provision_s`.
    pub nodes_ordered: u32,
    /// Nodes to look at after `release_after_s`.
    pub emptied: Vec<u32>,
}

#[derive(Debug)]
pub(super) struct Devices<'a> {
    pool: Option<&'a NodePoolSettings>,
    fit: Fit,
    most_replicas: u64,
    choice: ScaleDownChoice,
    uids: Xoshiro256PlusPlus,
    /// By their numbers; those that were released are used again.
    nodes: Vec<Node>,
    num_nodes: u32,
    /// When nodes under way were ordered, the earliest first.
    on_order: VecDeque<f64>,
    /// Replicas that hold devices, whatever they do.
    holding: u64,
    /// In order of their orders.
    waiting: VecDeque<Waiting>,
    /// Replicas that start, by their orders, and others by their lanes.
    starting: BTreeMap<u64, Pod>,
    lanes: Vec<Option<Pod>>,
    /// Time that replicas waited, summed, and until when.
    pub waited_s: f64,
    waited_until_s: f64,
    /// Whether nodes on order are paid, and for how long a node is at least.
    pays_orders: bool,
    minimum_s: f64,
    /// Seconds of nodes that a least time adds.
    pub short_s: f64,
}

impl<'a> Devices<'a> {
    /// `None` where replicas take what they need at once and no node is told from another.
    pub fn of(inputs: &'a RunInputs) -> Option<Box<Self>> {
        let cluster = inputs.cluster;
        let (pool, choice) = (cluster.node_pool.as_ref(), cluster.scale_down_choice);
        if pool.is_none() && cluster.max_devices.is_none() && choice == ScaleDownChoice::IdleFirst {
            return None;
        }
        debug_assert!(pool.is_none() || cluster.billing.unit == BillingUnit::Node);
        Some(Box::new(Self {
            pool,
            fit: Fit::new(inputs.devices(1) as u32, inputs.devices_per_node),
            most_replicas: cluster
                .max_devices
                .map_or(u64::MAX, |devices| u64::from(devices) / inputs.devices(1)),
            choice,
            uids: random::stream(inputs.seed, "cluster.pod_uids"),
            nodes: Vec::new(),
            num_nodes: 0,
            on_order: VecDeque::new(),
            holding: 0,
            waiting: VecDeque::new(),
            starting: BTreeMap::new(),
            lanes: Vec::new(),
            waited_s: 0.0,
            waited_until_s: 0.0,
            pays_orders: cluster.billing.cold_start,
            minimum_s: cluster.billing.minimum_s,
            short_s: 0.0,
        }))
    }

    /// Nodes that are paid, if there are nodes.
    pub fn paid_nodes(&self) -> Option<u64> {
        let on_order = if self.pays_orders { self.on_order.len() as u64 } else { 0 };
        self.pool.map(|_| u64::from(self.num_nodes) + on_order)
    }

    pub fn num_waiting(&self) -> u32 {
        self.waiting.len() as u32
    }

    /// Nodes for this many replicas are there before anything happens, and those that always are; returns how
    /// many replicas find room.
    pub fn prepare(&mut self, replicas: u32) -> u32 {
        let fitting = u64::from(replicas).min(self.most_replicas) as u32;
        let Some(pool) = self.pool else { return fitting };
        let most = pool.max_nodes.map_or(u64::MAX, u64::from);
        let nodes = self.fit.nodes(fitting).max(pool.min_nodes.into()).min(most);
        (0..nodes).for_each(|_| self.add_node(0.0, 0.0));
        let room = nodes / u64::from(self.fit.nodes_per_replica) * u64::from(self.fit.replicas_per_node);
        room.min(fitting.into()) as u32
    }

    /// Puts a replica that is there from the start into its lane.
    pub fn put_initial(&mut self, lane: Lane) {
        let mut pod = self.new_pod(0.0);
        let placed = self.place(&mut pod);
        debug_assert!(placed, "room was made for it");
        self.put(lane, pod);
    }

    /// A replica was ordered that takes so long to start. It waits until [`Self::settle`].
    pub fn order(&mut self, order: u64, delay_s: f64, now_s: f64) {
        self.pass_time(now_s);
        let pod = self.new_pod(now_s);
        self.waiting.push_back(Waiting { order, pod, delay_s });
    }

    /// A replica that started joins in a lane.
    pub fn join(&mut self, order: u64, lane: Lane) {
        let pod = self.starting.remove(&order).expect("it has started");
        self.put(lane, pod);
    }

    /// A replica is told to stop, and keeps its devices until it has left.
    pub fn stop(&mut self, lane: Lane, now_s: f64) {
        let pod = self.lanes[lane.index()].as_mut().expect("a replica is there");
        if std::mem::take(&mut pod.active) {
            pod.nodes.iter().for_each(|&node| self.nodes[node as usize].stop(now_s));
        }
    }

    /// A replica has left.
    pub fn leave(&mut self, lane: Lane, now_s: f64) {
        self.stop(lane, now_s);
        let pod = self.lanes[lane.index()].take().expect("a replica is there");
        self.release(&pod, now_s);
    }

    /// Takes back a replica that has not joined: the latest, or by the rule of a ReplicaSet. Returns its
    /// order.
    pub fn cancel(&mut self, now_s: f64) -> Option<u64> {
        self.pass_time(now_s);
        if self.choice != ScaleDownChoice::ReplicaSet {
            if let Some(waiting) = self.waiting.pop_back() {
                return Some(waiting.order);
            }
            return self.cancel_started(*self.starting.last_key_value()?.0, now_s);
        }
        let first = |one: &Pod, other: &Pod| self.goes_before((one, None), (other, None), now_s);
        if let Some(place) =
            (0..self.waiting.len()).min_by(|&a, &b| first(&self.waiting[a].pod, &self.waiting[b].pod))
        {
            return self.waiting.remove(place).map(|waiting| waiting.order);
        }
        let order = *self.starting.iter().min_by(|a, b| first(a.1, b.1))?.0;
        self.cancel_started(order, now_s)
    }

    fn cancel_started(&mut self, order: u64, now_s: f64) -> Option<u64> {
        let pod = self.starting.remove(&order)?;
        pod.nodes.iter().for_each(|&node| self.nodes[node as usize].stop(now_s));
        self.release(&pod, now_s);
        Some(order)
    }

    /// The lane of the replica that goes first among those that serve; `None` leaves it to others.
    pub fn choose(&self, existing: &[Lane], replicas: &[Replica], now_s: f64) -> Option<Lane> {
        let pod = |lane: Lane| self.lanes[lane.index()].as_ref().expect("a replica is there");
        let serving = || existing.iter().copied().filter(|&lane| pod(lane).active);
        match self.choice {
            ScaleDownChoice::IdleFirst => None,
            ScaleDownChoice::NewestFirst => serving().next_back(),
            ScaleDownChoice::ReplicaSet => serving().min_by(|&one, &other| {
                let [one, other] =
                    [one, other].map(|lane| (pod(lane), Some(replicas[lane.index()].joined_at_s)));
                self.goes_before(one, other, now_s)
            }),
            ScaleDownChoice::FewestOnNode => {
                let rank = |lane: Lane| self.rank(pod(lane), now_s);
                // Of nodes with as few, that of the oldest replica; there, the newest.
                let first = serving().min_by_key(|&lane| rank(lane))?;
                serving().rfind(|&lane| pod(lane).nodes == pod(first).nodes)
            }
        }
    }

    /// A node has arrived.
    pub fn arrive(&mut self, now_s: f64) {
        let ordered_at_s = self.on_order.pop_front().expect("a node was ordered");
        self.add_node(now_s, if self.pays_orders { ordered_at_s } else { now_s });
    }

    /// Releases a node that has been empty for long enough; whether it did.
    pub fn release_node(&mut self, node: u32, now_s: f64) -> bool {
        let pool = self.pool.expect("there are nodes");
        let due = self.nodes.get(node as usize).is_some_and(|node| {
            node.exists && node.pods == 0 && node.empty_since_s + pool.release_after_s <= now_s
        });
        if !due || self.num_nodes <= pool.min_nodes {
            return false;
        }
        self.nodes[node as usize].exists = false;
        self.num_nodes -= 1;
        self.short_s += (self.minimum_s - (now_s - self.nodes[node as usize].paid_from_s)).max(0.0);
        true
    }

    /// Gives devices to who waits, in order, and orders nodes for the rest.
    pub fn settle(&mut self, now_s: f64) -> Consequences {
        self.pass_time(now_s);
        let mut found = Consequences::default();
        loop {
            while let Some(mut next) = self.waiting.pop_front() {
                if !self.place(&mut next.pod) {
                    self.waiting.push_front(next);
                    break;
                }
                found.starts.push((next.order, next.delay_s));
                self.starting.insert(next.order, next.pod);
            }
            let more = self.nodes_lacking();
            let Some(pool) = self.pool.filter(|_| more > 0) else { break };
            if pool.provision_s > 0.0 {
                self.on_order.extend((0..more).map(|_| now_s));
                found.nodes_ordered = more;
                break;
            }
            (0..more).for_each(|_| self.add_node(now_s, now_s));
        }
        found.emptied = self.empty_now(now_s);
        found
    }

    /// Books what is left at the end.
    pub fn finish(&mut self, now_s: f64) {
        self.pass_time(now_s);
        let minimum_s = self.minimum_s;
        let on_order = self.on_order.iter().copied().filter(|_| self.pays_orders);
        let paid_from_s =
            self.nodes.iter().filter(|node| node.exists).map(|node| node.paid_from_s).chain(on_order);
        self.short_s += paid_from_s.map(|from_s| (minimum_s - (now_s - from_s)).max(0.0)).sum::<f64>();
    }

    fn pass_time(&mut self, now_s: f64) {
        self.waited_s += f64::from(self.num_waiting()) * (now_s - self.waited_until_s);
        self.waited_until_s = now_s;
    }

    fn new_pod(&mut self, now_s: f64) -> Pod {
        Pod { created_at_s: now_s, uid: self.uids.random(), active: true, nodes: Vec::new() }
    }

    fn put(&mut self, lane: Lane, pod: Pod) {
        if self.lanes.len() <= lane.index() {
            self.lanes.resize_with(lane.index() + 1, || None);
        }
        self.lanes[lane.index()] = Some(pod);
    }

    fn add_node(&mut self, now_s: f64, paid_from_s: f64) {
        let node = Node {
            exists: true,
            stopped_at_s: f64::NAN,
            empty_since_s: now_s,
            paid_from_s,
            ..Node::default()
        };
        self.num_nodes += 1;
        match self.nodes.iter_mut().find(|node| !node.exists) {
            Some(free) => *free = node,
            None => self.nodes.push(node),
        }
    }

    /// Finds room for a replica, if the limit on devices lets it have any.
    fn place(&mut self, pod: &mut Pod) -> bool {
        if self.holding >= self.most_replicas {
            return false;
        }
        if let Some(pool) = self.pool {
            let room = |&(_, node): &(usize, &Node)| node.exists && node.pods < self.fit.replicas_per_node;
            let with_room = self.nodes.iter().enumerate().filter(room);
            let found: Vec<u32> = if self.fit.nodes_per_replica > 1 {
                with_room.take(self.fit.nodes_per_replica as usize).map(|(number, _)| number as u32).collect()
            } else {
                let key = |&(number, node): &(usize, &Node)| match pool.placement {
                    Placement::LeastAllocated => (node.pods, number),
                    Placement::MostAllocated => (self.fit.replicas_per_node - node.pods, number),
                };
                with_room.min_by_key(key).map(|(number, _)| number as u32).into_iter().collect()
            };
            if (found.len() as u32) < self.fit.nodes_per_replica {
                return false;
            }
            for &number in &found {
                let node = &mut self.nodes[number as usize];
                node.pods += 1;
                node.active += 1;
            }
            pod.nodes = found;
        }
        self.holding += 1;
        true
    }

    fn release(&mut self, pod: &Pod, now_s: f64) {
        self.holding -= 1;
        for &number in &pod.nodes {
            let node = &mut self.nodes[number as usize];
            node.pods -= 1;
            if node.pods == 0 {
                node.empty_since_s = now_s;
            }
        }
    }

    /// Nodes to order for those that wait and may have devices, beyond what is on order. What waits has found
    /// no room anywhere.
    fn nodes_lacking(&self) -> u32 {
        let Some(pool) = self.pool else { return 0 };
        let allowed = (self.waiting.len() as u64).min(self.most_replicas.saturating_sub(self.holding));
        let on_order = self.on_order.len() as u64;
        let empty = self.nodes.iter().filter(|node| node.exists && node.pods == 0).count() as u64;
        let lacking = self.fit.nodes(allowed as u32).saturating_sub(on_order + empty);
        let allowed = pool
            .max_nodes
            .map_or(u64::MAX, |most| u64::from(most).saturating_sub(u64::from(self.num_nodes) + on_order));
        lacking.min(allowed) as u32
    }

    /// Nodes that have become empty now and are not needed for ever.
    fn empty_now(&self, now_s: f64) -> Vec<u32> {
        if self.pool.is_none_or(|pool| self.num_nodes <= pool.min_nodes) {
            return Vec::new();
        }
        let empty = self
            .nodes
            .iter()
            .enumerate()
            .filter(|(_, node)| node.exists && node.pods == 0 && node.empty_since_s == now_s);
        empty.map(|(number, _)| number as u32).collect()
    }

    /// Replicas on the node of this one that are not told to stop, before any is now.
    fn rank(&self, pod: &Pod, now_s: f64) -> u32 {
        pod.nodes.first().map_or(0, |&node| self.nodes[node as usize].rank(now_s))
    }

    /// Which of two goes first by a ReplicaSet's rule, both ready since then or neither.
    fn goes_before(&self, one: (&Pod, Option<f64>), other: (&Pod, Option<f64>), now_s: f64) -> Ordering {
        let ((one, one_ready_s), (other, other_ready_s)) = (one, other);
        let by_age = |a_s: f64, b_s: f64| {
            // The API server keeps whole seconds. Of equal ages in whole seconds, the next rule decides.
            (a_s.floor() != b_s.floor())
                .then(|| log_age(a_s, now_s).cmp(&log_age(b_s, now_s)).then(one.uid.cmp(&other.uid)))
        };
        let ready = one_ready_s.zip(other_ready_s).and_then(|(a_s, b_s)| by_age(a_s, b_s));
        let age = || by_age(one.created_at_s, other.created_at_s).unwrap_or_else(|| one.uid.cmp(&other.uid));
        self.rank(other, now_s).cmp(&self.rank(one, now_s)).then_with(|| ready.unwrap_or_else(age))
    }
}

impl Node {
    fn stop(&mut self, now_s: f64) {
        self.active -= 1;
        self.stopped = if self.stopped_at_s == now_s { self.stopped + 1 } else { 1 };
        self.stopped_at_s = now_s;
    }

    fn rank(&self, now_s: f64) -> u32 {
        self.active + if self.stopped_at_s == now_s { self.stopped } else { 0 }
    }
}

/// Logarithm to base 2 of an age in nanoseconds, rounded down; -1 for none.
fn log_age(since_s: f64, now_s: f64) -> i32 {
    let nanoseconds = ((now_s - since_s.floor()) * 1e9) as u64;
    nanoseconds.checked_ilog2().map_or(-1, |log| log as i32)
}
