//! Who is told what (SPC-5 5.14, SAM-5 5.14), and PRGENERATION.

use super::*;
use UnitAttention::{RegistrationsPreempted, ReservationsPreempted, ReservationsReleased};

#[test]
fn clear_tells_all_other_registrants() {
    let mut unit = Unit::held(EA, &[(&a(), 1), (&b(), 2), (&c(), 3)]);
    let change = unit.good(&b(), out(CLEAR, 0, 2, 0, 0));
    assert_eq!(change.attentions, [(a(), ReservationsPreempted), (c(), ReservationsPreempted)]);
}

#[test]
fn preempt_tells_each_victim_and_nobody_else_while_the_type_stays() {
    let mut unit = Unit::held(WE_RO, &[(&a(), 1), (&b(), 2), (&c(), 3)]);
    let change = unit.good(&b(), out(PREEMPT, WE_RO, 2, 1, 0));
    assert_eq!(change.attentions, [(a(), RegistrationsPreempted)]);
}

#[test]
fn preempt_with_another_type_tells_the_remaining_registrants_except_the_caller() {
    let mut unit = Unit::held(WE_RO, &[(&a(), 1), (&b(), 2), (&c(), 3)]);
    let change = unit.good(&b(), out(PREEMPT, EA_RO, 2, 1, 0));
    assert_eq!(change.attentions, [(a(), RegistrationsPreempted), (c(), ReservationsReleased)]);
}

#[test]
fn preempt_never_tells_the_caller_even_when_its_own_registration_goes() {
    let other_path = nexus('b', 2, 1);
    let mut unit = Unit::held(WE_RO, &[(&a(), 1), (&b(), 2), (&other_path, 2)]);
    let change = unit.good(&b(), out(PREEMPT, WE_RO, 2, 2, 0));
    assert_eq!(change.attentions, [(other_path, RegistrationsPreempted)]);
}

#[test]
fn release_of_types_5_to_8_tells_all_other_registrants_and_of_1_and_3_nobody() {
    for kind in ALL_TYPES {
        let mut unit = Unit::held(kind, &[(&a(), 1), (&b(), 2), (&c(), 3)]);
        let change = unit.good(&a(), out(RELEASE, kind, 1, 0, 0));
        if kind < 5 {
            assert_eq!(change.attentions, []);
        } else {
            let told = [(b(), ReservationsReleased), (c(), ReservationsReleased)];
            assert_eq!(change.attentions, told);
        }
    }
}

#[test]
fn the_holders_unregistering_tells_the_others_for_types_5_and_6_only() {
    for kind in ALL_TYPES {
        let mut unit = Unit::held(kind, &[(&a(), 1), (&b(), 2)]);
        let change = unit.good(&a(), out(REGISTER, 0, 1, 0, 0));
        let expected = match kind {
            5 | 6 => vec![(b(), ReservationsReleased)],
            _ => vec![],
        };
        assert_eq!(change.attentions, expected, "type {kind}");
    }
}

#[test]
fn register_reserve_and_move_tell_nobody() {
    let mut unit = Unit::registered(&[(&a(), 1), (&b(), 2)]);
    let id = wire::transport_id(b().initiator.name());
    for wire in [
        out(REGISTER, 0, 1, 4, 0),
        out(REGISTER_AND_IGNORE, 0, 0, 1, 0),
        out(RESERVE, WE_RO, 1, 0, 0),
        wire::out_move(1, 2, 0, 1, &id),
    ] {
        assert!(unit.good(&a(), wire).attentions.is_empty());
    }
}

/// The queues of three nexuses, as the shell keeps them.
#[derive(Default)]
struct Queues(Vec<(ItNexus, Queue)>);

impl Queues {
    fn deliver(&mut self, change: &Change) {
        for (who, attention) in &change.attentions {
            if !self.0.iter().any(|(known, _)| known == who) {
                self.0.push((who.clone(), Queue::default()));
            }
            let queue = self.0.iter_mut().find(|(known, _)| known == who);
            queue.expect("it was just added").1.push(*attention);
        }
    }
    fn drain(&mut self, who: &ItNexus) -> Vec<Asc> {
        let Some((_, queue)) = self.0.iter_mut().find(|(known, _)| known == who) else {
            return Vec::new();
        };
        std::iter::from_fn(|| queue.pop()).map(UnitAttention::asc).collect()
    }
}

#[test]
fn case_09_two_pending_attentions_come_once_each_in_order_for_each_of_three_initiators() {
    let mut unit = Unit::held(WE_RO, &[(&a(), 1), (&b(), 2), (&c(), 3)]);
    let mut queues = Queues::default();
    // B takes over with another type, and then releases: A is told that it was removed, C twice
    // the same condition; C is then removed.
    queues.deliver(&unit.good(&b(), out(PREEMPT, EA_RO, 2, 1, 0)));
    queues.deliver(&unit.good(&b(), out(RELEASE, EA_RO, 2, 0, 0)));
    queues.deliver(&unit.good(&b(), out(PREEMPT, 0, 2, 3, 0)));
    // A registers anew and clears: B is told.
    queues.deliver(&unit.good(&a(), out(REGISTER, 0, 0, 1, 0)));
    queues.deliver(&unit.good(&a(), out(CLEAR, 0, 1, 0, 0)));
    assert_eq!(queues.drain(&a()), [Asc(0x2A, 0x05)]);
    assert_eq!(queues.drain(&b()), [Asc(0x2A, 0x03)]);
    assert_eq!(queues.drain(&c()), [Asc(0x2A, 0x04), Asc(0x2A, 0x05)]);
    for who in [a(), b(), c()] {
        assert_eq!(queues.drain(&who), []);
    }
}

#[test]
fn the_generation_counts_registrations_and_preemptions_and_nothing_else() {
    let mut unit = Unit::default();
    let id = wire::transport_id(b().initiator.name());
    let rows = [
        (out(REGISTER, 0, 0, 1, 0), 1),
        (out(REGISTER, 0, 1, 2, 0), 2),
        (out(REGISTER_AND_IGNORE, 0, 0, 1, 0), 3),
        (out(RESERVE, WE, 1, 0, 0), 3),
        (out(RELEASE, WE, 1, 0, 0), 3),
        (out(RESERVE, WE, 1, 0, 0), 3),
        (out(PREEMPT, EA, 1, 1, 0), 4),
        (out(PREEMPT_AND_ABORT, WE, 1, 1, 0), 5),
        (wire::out_move(1, 2, 0, 1, &id), 6),
        (out(REGISTER, 0, 1, 0, 0), 7),
        (out(REGISTER, 0, 0, 1, 0), 8),
        (out(CLEAR, 0, 1, 0, 0), 9),
    ];
    for (wire, generation) in rows {
        unit.good(&a(), wire);
        assert_eq!(unit.now.generation(), generation);
        for action in 0..=3 {
            unit.read(action);
        }
    }
    assert_eq!(unit.now.generation(), 9);
}

#[test]
fn a_refused_command_changes_nothing() {
    let unit = Unit::held(WE_RO, &[(&a(), 1)]);
    let before = unit.now.clone();
    unit.refused(&b(), out(PREEMPT, WE_RO, 0, 1, 0));
    unit.refused(&a(), out(RELEASE, EA, 1, 0, 0));
    assert_eq!(unit.now, before);
}

#[test]
fn what_changes_the_record_asks_to_be_stored_and_has_a_sentence() {
    let mut unit = Unit::default();
    for wire in [
        out(REGISTER, 0, 0, 1, 0),
        out(RESERVE, WE, 1, 0, 0),
        out(PREEMPT, EA, 1, 1, 0),
        out(RELEASE, EA, 1, 0, 0),
        out(CLEAR, 0, 1, 0, 0),
    ] {
        let change = unit.good(&a(), wire);
        assert!(change.persist && change.what.is_some_and(|what| what.contains("host-a")));
    }
}
