//! Histories in which a rule was once broken: found by the model, made small by it, kept so that it stays cured.

use crate::{holds, step::Step::*};

#[test]
fn room_reserved_for_a_placed_volume_was_free_for_the_pods_others() {
    holds(&[(11, 8)], &[Pod(40972), Pod(36161)]);
}

#[test]
fn a_volume_whose_claim_went_while_its_caller_restarted_stayed_for_ever() {
    holds(&[(10, 4)], &[Pod(0), Run(1), DeleteClaim(0), Kill(0)]);
    holds(&[(10, 0)], &[Pod(0), Run(1), Depose, DeleteClaim(0)]);
    holds(&[(10, 8)], &[Pod(29671), Run(0), DeleteClaim(0), Depose]);
}

#[test]
fn a_pod_that_can_not_run_kept_another_from_the_claim_that_both_share() {
    holds(&[(7, 8)], &[Pod(2), Run(0), DeleteClaim(0), Pod(8)]);
}

#[test]
fn a_pod_that_could_not_run_any_more_kept_the_room_that_was_chosen_for_it() {
    holds(
        &[(11, 4)],
        &[
            Pod(61),
            Pod(54976),
            Pod(2),
            Kill(0),
            Catch(1),
            Catch(0),
            Schedule(1),
            Schedule(1),
            Pod(2),
            DeleteClaim(35),
        ],
    );
}
