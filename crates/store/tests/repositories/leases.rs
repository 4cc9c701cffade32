use std::time::Duration;

use patchbay_store::leases::{self, Lease};

use crate::world::{World, commit, story};

const LENGTH: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_micros(1);
const ALMOST: Duration = Duration::from_micros(9_999_999);

async fn acquire(world: &World, holder: &'static str) -> Option<Lease> {
    commit!(world, |tx| { leases::acquire(tx, "job", holder, LENGTH).await? })
}

async fn is_current(world: &World, lease: &Lease) -> bool {
    let lease = lease.clone();
    commit!(world, |tx| { leases::is_current(tx, &lease).await? })
}

story! {
    async fn one_holder_at_a_time_and_the_fence_only_grows(world) {
        let a = acquire(&world, "a").await.unwrap();
        assert_eq!((a.fence, a.expires_at), (1, world.now() + LENGTH));
        assert_eq!(acquire(&world, "b").await, None);
        assert_eq!(acquire(&world, "a").await, None, "a lease is not re-entrant");

        world.clock.advance(ALMOST);
        assert_eq!(acquire(&world, "b").await, None);
        world.clock.advance(TICK);
        let b = acquire(&world, "b").await.unwrap();
        assert_eq!(b.fence, 2);
        assert!(!is_current(&world, &a).await);
        assert!(is_current(&world, &b).await);

        let late = a.clone();
        let (renewed, found) = commit!(world, |tx| {
            let renewed = leases::renew(tx, &late, LENGTH).await?;
            leases::release(tx, &late).await?;
            (renewed, leases::find(tx, "job").await?)
        });
        assert_eq!(renewed, None, "a lease that was taken is not renewed");
        assert_eq!(found, Some(b.clone()), "nor released by its former holder");

        commit!(world, |tx| { leases::release(tx, &b).await? });
        let c = acquire(&world, "c").await.unwrap();
        assert_eq!(c.fence, 3);
    }

    async fn a_renewed_lease_lasts_and_an_ended_one_nobody_took_may_be_renewed(world) {
        let a = acquire(&world, "a").await.unwrap();
        world.clock.advance(LENGTH / 2);
        let a = commit!(world, |tx| { leases::renew(tx, &a, LENGTH).await?.unwrap() });
        world.clock.advance(ALMOST);
        assert_eq!(acquire(&world, "b").await, None);
        world.clock.advance(LENGTH);
        let renewed = commit!(world, |tx| { leases::renew(tx, &a, LENGTH).await?.unwrap() });
        assert_eq!(renewed.fence, 1);
        assert_eq!(acquire(&world, "b").await, None);
    }

    async fn of_many_at_once_one_gets_it(world) {
        let tries = (0..16).map(|n| {
            let store = world.store.clone();
            async move {
                let holder = format!("holder {n}");
                store
                    .write_retry(move |tx| {
                        let holder = holder.clone();
                        Box::pin(async move { leases::acquire(tx, "job", &holder, LENGTH).await })
                    })
                    .await
                    .unwrap()
            }
        });
        let got = futures_util::future::join_all(tries).await;
        assert_eq!(got.iter().flatten().count(), 1);
    }
}
