//! What is sent to a worker beside tasks that fit: functions, and payloads in parts.
//!
//! Always: a function goes ahead of its first task; a part is cut only when it is known to fit.

use std::sync::Arc;

use manyhands_shm::mailbox::Head;

use super::super::published::{Function, Needs};
use super::super::task::Task;
use super::super::wire::{self, Cargo, Stream, to_worker};
use super::Worker;
use super::handed::{Closing, Handed, unstreamed};

/// A part of a stream is not worth a frame below this many bytes.
const LEAST_PART: usize = 2048;

impl Worker {
    /// Sends what a task needs ahead of it, its function last. `false`: not yet, there is no room.
    pub(super) fn define_all(&mut self, task: &Task) -> bool {
        let function = task.function.as_ref();
        let of_function = function.map_or(&[][..], |function| function.payload.needs.published());
        of_function
            .iter()
            .chain(task.payload.needs.published())
            .chain(function)
            .all(|needed| self.known.contains(&needed.id) || self.define(Arc::clone(needed)))
    }

    /// Sends a function ahead of its first task. `false`: not yet, there is no room.
    pub(super) fn define(&mut self, function: Arc<Function>) -> bool {
        if let Some(frozen) = &function.frozen {
            if !self.ready {
                return false; // it has not said yet whether it can open what we keep
            }
            if self.opens_ours
                && function.payload.bytes.len() <= wire::INLINE_MAX
                && let Ok(table) = wire::frozen_table(frozen)
                && table.len() + function.payload.bytes.len() <= self.tasks.max_payload()
            {
                let parts = [&table[..], &function.payload.bytes[..]];
                return self.push_definition(function.id, wire::FROZEN, &parts);
            }
        }
        let Some(packed) = wire::pack(
            &function.payload,
            self.lender.as_mut(),
            self.tasks.max_payload(),
        ) else {
            self.outgoing = Some((
                Stream::new(Cargo::Published(Arc::clone(&function))),
                Closing::Function(function),
            ));
            self.advance_stream();
            return self.outgoing.is_none();
        };
        let inline: &[u8] = if packed.inline {
            &function.payload.bytes
        } else {
            &[]
        };
        let pushed = self.push_definition(function.id, packed.flags, &[&packed.table, inline]);
        if !pushed {
            self.reclaim(packed.loans);
        }
        pushed
    }

    pub(super) fn push_definition(&mut self, id: u32, flags: u16, parts: &[&[u8]]) -> bool {
        let head = Head {
            kind: to_worker::DEFINE,
            flags,
            tag: id,
            id: 0,
            extra: 0,
        };
        let pushed = self.tasks.push(head, parts).is_ok();
        if pushed {
            self.unpublished = true;
            self.known.insert(id);
        }
        pushed
    }

    /// Remembers that a function is not needed any more.
    pub(in crate::engine) fn forget(&mut self, id: u32) {
        if self.known.remove(&id) {
            self.to_forget.push(id);
        }
    }

    /// Sends what it is to forget without waiting for its next task, if that can be done now.
    pub(in crate::engine) fn forget_now(&mut self) {
        if self.outgoing.is_none() && !self.stopped {
            self.send_forgets();
        }
    }

    pub(super) fn send_forgets(&mut self) {
        while let Some(&id) = self.to_forget.last() {
            let head = Head {
                kind: to_worker::FORGET,
                flags: 0,
                tag: id,
                id: 0,
                extra: 0,
            };
            if self.tasks.push(head, &[]).is_err() {
                return;
            }
            self.unpublished = true;
            self.to_forget.pop();
        }
    }

    /// Sends what fits of a stream in progress, and its closing frame after the last part.
    pub(in crate::engine) fn advance_stream(&mut self) {
        while let Some((stream, closing)) = &mut self.outgoing {
            if !stream.is_done() {
                // A part is only cut once it is known to fit.
                let room = self.tasks.room();
                if room < LEAST_PART {
                    return;
                }
                if let Some((head, bytes)) = stream.next_part(to_worker::PART, room) {
                    let pushed = self.tasks.push(head, &[bytes]);
                    debug_assert!(pushed.is_ok(), "room() promised {room} bytes");
                    self.unpublished = true;
                }
                continue;
            }
            let (flags, content) = stream.closing();
            let head = match closing {
                Closing::Function(function) => Head {
                    kind: to_worker::DEFINE,
                    flags,
                    tag: function.id,
                    id: 0,
                    extra: 0,
                },
                Closing::Task { task, serial } => Head {
                    kind: to_worker::TASK,
                    flags: wire::mark(task.mode) | flags,
                    tag: task.tag(),
                    id: *serial,
                    extra: task.job.terms().unwrap_or(self.terms).limit.packed(),
                },
            };
            let Ok(ticket) = self.tasks.push(head, &[&content]) else {
                return;
            };
            self.unpublished = true;
            match self.outgoing.take().map(unstreamed) {
                Some(Err(function)) => {
                    self.known.insert(function.id);
                    // Perhaps nobody else needs it any more.
                    self.spent.push(function.into());
                }
                Some(Ok(task)) => self.enlist(Handed {
                    job: task.job,
                    index: task.index,
                    serial: head.id,
                    mode: task.mode,
                    function: task.function,
                    ticket,
                    loans: Vec::new(),
                    buffers: 0,
                    needs: Needs::default(),
                    table_len: 0,
                    bytes: task.payload.len(),
                    retained: Some(task.payload),
                    streamed: true,
                    losses: task.losses,
                }),
                None => {}
            }
        }
    }
}
