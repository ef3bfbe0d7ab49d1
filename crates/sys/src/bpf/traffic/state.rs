//! The state of one port: its maps, read and changed by a controller.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::os::fd::AsFd as _;
use std::path::PathBuf;
use std::sync::atomic::Ordering::SeqCst;

use sameport_policy::traffic::plan::{Newcomers, TrafficPlan};

use super::error::{TrafficError, TrafficResult};
use super::layout::{
    self, HELD_BACK, LANES, MEMBERS, RECORD, control, counter, counters, lane, mark, member, table,
};
use super::mapping::SharedMap;
use super::pins::TrafficKey;
use super::table::{bytes, entries};
use crate::bpf::pin_dir::failed;
use crate::bpf::sized_map::SizedMap;
use crate::netns::local_addresses;
use crate::socket::worker_socket::WorkerSocket;

/// The state of one port. Every function is a few system calls; nothing has to keep running.
#[derive(Debug)]
pub struct TrafficState {
    pub(super) key: TrafficKey,
    pub(super) directory: PathBuf,
    pub(super) control: SharedMap,
    pub(super) members: SharedMap,
    pub(super) counters: SharedMap,
    pub(super) tables: SizedMap,
    listeners: SizedMap,
    pub(super) marks: SizedMap,
    pub(super) probes: SizedMap,
    pub(super) names: SizedMap,
    record: SizedMap,
}

/// Where a socket was before it became one of another member.
#[derive(Debug, Clone, Copy)]
pub(super) struct FormerPlace {
    number: usize,
    lane: usize,
}

impl TrafficState {
    /// Opens the maps in a directory. `None` if it does not exist.
    pub(super) fn open(key: TrafficKey, directory: PathBuf) -> TrafficResult<Option<Self>> {
        if std::fs::symlink_metadata(&directory).is_err() {
            return Ok(None);
        }
        let map = |name: &str, key: usize, value: usize| {
            let path = directory.join(name);
            SizedMap::open(&path, key, value).map_err(|error| match error.kind() {
                std::io::ErrorKind::PermissionDenied => {
                    failed("bpf(BPF_OBJ_GET)", &path)(error).into()
                }
                _ => TrafficError::NotOurs(directory.clone()),
            })
        };
        let shared = |name: &str, value: usize| {
            let path = directory.join(name);
            let mapped = SharedMap::new(map(name, 4, value)?, value);
            mapped.map_err(|error| TrafficError::from(failed("mmap", &path)(error)))
        };
        Ok(Some(Self {
            key,
            control: shared("control", control::SIZE)?,
            members: shared("members", MEMBERS * member::SIZE)?,
            counters: shared("counters", counters::SIZE)?,
            tables: map("tables", 4, table::SIZE)?,
            listeners: map("listeners", 4, 8)?,
            marks: map("marks", 4, size_of::<layout::RawMark>())?,
            probes: map("probes", 2, 4)?,
            names: map("names", 4, 8)?,
            record: map("record", 4, RECORD)?,
            directory,
        }))
    }

    /// The port.
    #[must_use]
    pub fn key(&self) -> TrafficKey {
        self.key
    }

    pub(super) fn moved_to(self, directory: PathBuf) -> Self {
        Self { directory, ..self }
    }

    pub(super) fn call(&self, call: &'static str) -> impl Fn(std::io::Error) -> TrafficError + '_ {
        move |error| TrafficError::Pin(failed(call, &self.directory)(error))
    }

    /// Writes what does not change afterwards.
    pub(super) fn begin(&self) {
        self.control.u64(control::NETNS).store(self.key.netns, SeqCst);
        self.control.u32(control::PORT).store(self.key.port.into(), SeqCst);
    }

    /// What the user asked for, as the last controller wrote it.
    ///
    /// # Errors
    ///
    /// [`TrafficError::Pin`].
    pub fn record(&self) -> TrafficResult<String> {
        let mut value = vec![0; RECORD];
        self.record.lookup(&[0; 4], &mut value).map_err(self.call("bpf(BPF_MAP_LOOKUP_ELEM)"))?;
        let end = value.iter().position(|byte| *byte == 0).unwrap_or(RECORD);
        Ok(String::from_utf8_lossy(&value[..end]).into_owned())
    }

    pub(super) fn write_record(&self, text: &str) -> TrafficResult<()> {
        if text.len() >= RECORD || text.contains('\0') {
            return Err(TrafficError::TooLong);
        }
        let mut value = text.as_bytes().to_vec();
        value.resize(RECORD, 0);
        self.record.update(&[0; 4], &value).map_err(self.call("bpf(BPF_MAP_UPDATE_ELEM)"))?;
        self.control.u32(control::VERSION).fetch_add(1, SeqCst);
        Ok(())
    }

    /// The member number of every listener, by cookie.
    pub(super) fn numbers(&self) -> BTreeMap<u64, u32> {
        let mut numbers = BTreeMap::new();
        for number in self.used() {
            for lane in 0..LANES {
                let cookie = self.cookie(number, lane);
                if cookie != 0 {
                    numbers.insert(cookie, u32::try_from(number).unwrap_or(u32::MAX));
                }
            }
        }
        numbers
    }

    pub(super) fn used(&self) -> impl Iterator<Item = usize> + '_ {
        (0..MEMBERS).filter(|number| {
            let sockets = self.member(*number, member::SOCKETS).load(SeqCst);
            sockets != 0 && sockets < member::CLAIMED
        })
    }

    pub(super) fn cookie(&self, number: usize, lane: usize) -> u64 {
        let at = number * member::SIZE + member::COOKIES + 8 * lane;
        self.members.u64(at).load(SeqCst)
    }

    pub(super) fn member(&self, number: usize, field: usize) -> &std::sync::atomic::AtomicU32 {
        self.members.u32(number * member::SIZE + field)
    }

    pub(super) fn counter(&self, number: usize, field: usize) -> &std::sync::atomic::AtomicU32 {
        self.counters.u32(counters::OF + number * counter::SIZE + field)
    }

    /// `struct counter` of a member, a field of eight bytes.
    pub(super) fn long(&self, number: usize, field: usize) -> &std::sync::atomic::AtomicU64 {
        self.counters.u64(counters::OF + number * counter::SIZE + field)
    }

    /// The lane of the socket's address, which is made if there is none.
    fn lane(&self, socket: &WorkerSocket) -> TrafficResult<usize> {
        let wrong = |call| {
            move |errno: rustix::io::Errno| TrafficError::Socket(call, socket.inode(), errno.into())
        };
        let address = socket.local_address().map_err(wrong("getsockname"))?;
        let address = address.ok_or(TrafficError::NoMember)?;
        let device = socket.device().and_then(|name| local_addresses::device_index(&name));
        let mut wanted = [0_u32; lane::SIZE / 4];
        let family = if address.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 };
        wanted[lane::FAMILY / 4] = family.cast_unsigned();
        wanted[lane::DEVICE / 4] = device.unwrap_or(0);
        let ip = match address.ip() {
            IpAddr::V4(ip) => ip.octets().to_vec(),
            IpAddr::V6(ip) => ip.octets().to_vec(),
        };
        let (words, _) = ip.as_chunks::<4>();
        for (at, word) in words.iter().enumerate() {
            wanted[lane::IP / 4 + at] = u32::from_ne_bytes(*word);
        }
        let word =
            |lane: usize, at: usize| self.control.u32(control::LANE + lane * lane::SIZE + at * 4);
        for lane in 0..LANES {
            let found: Vec<u32> = (0..wanted.len()).map(|at| word(lane, at).load(SeqCst)).collect();
            if found == wanted {
                return Ok(lane);
            }
            if found[0] == 0 {
                // The family last: without it a lane is not used.
                for at in (0..wanted.len()).rev() {
                    word(lane, at).store(wanted[at], SeqCst);
                }
                return Ok(lane);
            }
        }
        Err(TrafficError::TooManyAddresses)
    }

    /// How many lanes there are.
    pub(super) fn lanes(&self) -> usize {
        let family =
            |lane: &usize| self.control.u32(control::LANE + lane * lane::SIZE).load(SeqCst) != 0;
        (0..LANES).take_while(family).count()
    }

    /// Puts these sockets into the maps, unless they are there. Gives the places that they had before as members
    /// of other numbers, where they can still be chosen.
    pub(super) fn adopt(
        &self,
        plan: &TrafficPlan,
        sockets: &[&WorkerSocket],
    ) -> TrafficResult<Vec<FormerPlace>> {
        let mut numbers = self.numbers();
        let mut former = Vec::new();
        for socket in sockets {
            let lane = self.lane(socket)?;
            let failed = |errno: rustix::io::Errno| {
                TrafficError::Socket("getsockopt(SO_COOKIE)", socket.inode(), errno.into())
            };
            let cookie = socket.cookie().map_err(failed)?;
            let own = plan
                .members
                .iter()
                .find(|it| it.sockets.iter().any(|socket| socket.cookie == Some(cookie)));
            let together = own.into_iter().flat_map(|it| &it.sockets);
            let target = together
                .filter_map(|it| it.cookie)
                .find_map(|cookie| numbers.get(&cookie))
                .copied();
            // A second listener of a process on one address stays a member of its own.
            let joins = |target: u32| {
                usize::try_from(target).is_ok_and(|number| self.cookie(number, lane) == 0)
            };
            if numbers.contains_key(&cookie) && !target.is_some_and(joins) {
                continue;
            }
            let pid = own.and_then(|it| it.pid);
            let number = self.place(socket, cookie, lane, target, pid)?;
            numbers.insert(cookie, number);
            former.extend(self.former_place(cookie, lane, number));
        }
        Ok(former)
    }

    /// Makes the socket a listener of this member, or of a new one.
    fn place(
        &self,
        socket: &WorkerSocket,
        cookie: u64,
        lane: usize,
        target: Option<u32>,
        pid: Option<i32>,
    ) -> TrafficResult<u32> {
        let joins = target
            .and_then(|number| usize::try_from(number).ok())
            .filter(|number| self.cookie(*number, lane) == 0 && self.join(*number));
        let number = match joins {
            Some(number) => number,
            None => self.claim().ok_or(TrafficError::TooManyMembers)?,
        };
        let generation = self.member(number, member::GENERATION).load(SeqCst);
        let (number_u32, lane_u32) =
            (u32::try_from(number).unwrap_or(0), u32::try_from(lane).unwrap_or(0));
        let mark = mark(number_u32, generation, lane_u32, 0);
        let fd = std::os::fd::AsRawFd::as_raw_fd(&socket.as_fd());
        let wrong =
            |call| move |error: std::io::Error| TrafficError::Socket(call, socket.inode(), error);
        let done = self
            .marks
            .update(&fd.to_ne_bytes(), &mark)
            .map_err(wrong("bpf(BPF_MAP_UPDATE_ELEM): mark"))
            .and_then(|()| {
                let key = u32::try_from(lane * MEMBERS + number).unwrap_or(u32::MAX);
                let value = u64::from(fd.cast_unsigned());
                self.listeners
                    .update(&key.to_ne_bytes(), &value.to_ne_bytes())
                    .map_err(wrong("bpf(BPF_MAP_UPDATE_ELEM): listener"))
            })
            .and_then(|()| {
                self.name(cookie, number_u32, generation)
                    .map_err(wrong("bpf(BPF_MAP_UPDATE_ELEM): name"))
            });
        let sockets = self.member(number, member::SOCKETS);
        if let Err(error) = done {
            match joins {
                Some(_) => sockets.fetch_sub(1, SeqCst),
                None => sockets.swap(0, SeqCst),
            };
            return Err(error);
        }
        self.members.u64(number * member::SIZE + member::COOKIES + 8 * lane).store(cookie, SeqCst);
        if joins.is_none() {
            let owner = pid.map_or(0, |pid| u64::from(pid.cast_unsigned()));
            self.members.u64(number * member::SIZE + member::OWNER).store(owner, SeqCst);
            sockets.store(1, SeqCst);
        }
        self.control.u32(control::VERSION).fetch_add(1, SeqCst);
        Ok(number_u32)
    }

    /// Counts one more socket of a member, unless it has gone.
    fn join(&self, number: usize) -> bool {
        let sockets = self.member(number, member::SOCKETS);
        let more = |now: u32| (now > 0 && now < member::CLAIMED).then_some(now + 1);
        sockets.fetch_update(SeqCst, SeqCst, more).is_ok()
    }

    /// A socket that a program adopted as a member of its own has become one of another. Its listener stays where
    /// it was, as the tables that are read can still choose it there.
    fn former_place(&self, cookie: u64, lane: usize, number: u32) -> Option<FormerPlace> {
        let number = usize::try_from(number).ok()?;
        let number = self.used().filter(|other| *other != number).find(|other| {
            let at = other * member::SIZE + member::COOKIES + 8 * lane;
            self.members.u64(at).compare_exchange(cookie, 0, SeqCst, SeqCst).is_ok()
        })?;
        Some(FormerPlace { number, lane })
    }

    /// Frees places that no table refers to any longer.
    pub(super) fn vacate(&self, places: &[FormerPlace]) {
        for FormerPlace { number, lane } in places {
            let key = u32::try_from(lane * MEMBERS + number).unwrap_or(u32::MAX);
            // The socket may have been closed, which has removed it.
            let _ = self.listeners.delete(&key.to_ne_bytes());
            self.member(*number, member::SOCKETS).fetch_sub(1, SeqCst);
        }
    }

    /// Begins a new life of a free number.
    fn claim(&self) -> Option<usize> {
        let first = usize::try_from(self.control.u32(control::FIRST).load(SeqCst)).ok()?;
        let number = (0..MEMBERS).map(|i| (first + i) % MEMBERS).find(|number| {
            let sockets = self.member(*number, member::SOCKETS);
            sockets.compare_exchange(0, member::CLAIMED, SeqCst, SeqCst).is_ok()
        })?;
        self.control.u32(control::FIRST).store(u32::try_from(number + 1).unwrap_or(0), SeqCst);
        let generation = self.counter(number, counter::GENERATION).load(SeqCst).wrapping_add(1);
        self.member(number, member::GENERATION).store(generation, SeqCst);
        self.member(number, member::ADOPTED).store(0, SeqCst);
        for lane in 0..LANES {
            self.members.u64(number * member::SIZE + member::COOKIES + 8 * lane).store(0, SeqCst);
        }
        self.counter(number, counter::GENERATION).store(generation, SeqCst);
        for field in [counter::OPEN, counter::HUNG] {
            self.counter(number, field).store(0, SeqCst);
        }
        for field in [counter::CHOSEN, counter::ESTABLISHED, counter::WAITING] {
            self.long(number, field).store(0, SeqCst);
        }
        for column in [counters::LOADS, counters::PENDING, counters::PASSES] {
            self.counters.u64(column + 8 * number).store(0, SeqCst);
        }
        Some(number)
    }

    /// Makes the choices follow the plan. The tables that are not read are written, and then read: a choice
    /// sees the old plan or the new one. If a member came or went meanwhile, it is done again.
    pub(super) fn follow(&self, plan: &TrafficPlan) -> TrafficResult<()> {
        const ATTEMPTS: usize = 1000;
        let version = self.control.u32(control::VERSION);
        for _ in 0..ATTEMPTS {
            let before = version.load(SeqCst);
            let held_back = |number: u32| {
                let number = usize::try_from(number).unwrap_or(0);
                self.member(number, member::ADOPTED).load(SeqCst) == HELD_BACK
            };
            let (entries, newcomer) = entries(plan, &self.numbers(), held_back);
            let next = 1 - (self.control.u32(control::ACTIVE).load(SeqCst) & 1);
            let (canaries, ordinary): (Vec<_>, Vec<_>) =
                entries.into_iter().partition(|entry| entry.canary);
            for (class, entries) in [(0, ordinary), (1, canaries)] {
                self.tables
                    .update(&(next * 2 + class).to_ne_bytes(), &bytes(&entries))
                    .map_err(self.call("bpf(BPF_MAP_UPDATE_ELEM)"))?;
            }
            let admits = plan.newcomers == Newcomers::Admit && newcomer > 0;
            for (field, value) in [
                (control::WEIGHT, newcomer),
                (control::INVERSE, layout::inverse(newcomer)),
                (control::RANK, 0),
                (control::ADMIT, admits.into()),
                (control::CANARY, plan.canary.map_or(0, |share| share.per_10000.into())),
                (control::ACTIVE, next),
            ] {
                self.control.u32(field).store(value, SeqCst);
            }
            // Who has decided from the plan before decides again.
            if version.compare_exchange(before, before.wrapping_add(1), SeqCst, SeqCst).is_ok() {
                return Ok(());
            }
        }
        // Members come and go faster than they can be read. The last plan holds for those that were there.
        Ok(())
    }
}
