//! How often, and after which pauses, something is tried again.

use std::time::Duration;

use super::failure::Failure;
use super::settings::Patience;

/// The attempts at one thing.
#[derive(Debug)]
pub(super) struct Retries<'a> {
    patience: &'a Patience,
    attempts_left: u32,
    next_pause: Duration,
}

impl<'a> Retries<'a> {
    /// `attempts` counts the first one.
    pub(super) fn new(patience: &'a Patience, attempts: u32) -> Self {
        Self { patience, attempts_left: attempts.saturating_sub(1), next_pause: patience.first_pause }
    }

    /// Waits before the next attempt, or gives the failure back: nothing helps, or this was the last attempt.
    pub(super) async fn pause_after(&mut self, failure: Failure) -> Result<(), Failure> {
        if !failure.is_worth_retrying() || self.attempts_left == 0 {
            return Err(failure);
        }
        let asked_for = match &failure {
            Failure::Refused(refusal) => refusal.retry_after.unwrap_or_default(),
            _ => Duration::ZERO,
        };
        if asked_for > self.patience.longest_pause {
            return Err(failure);
        }
        self.attempts_left -= 1;
        let pause = jittered(self.next_pause).max(asked_for);
        self.next_pause = (self.next_pause * 2).min(self.patience.longest_pause);
        tracing::debug!(%failure, pause_ms = pause.as_millis(), "registry: trying again");
        tokio::time::sleep(pause).await;
        Ok(())
    }
}

/// Half to one and a half of it, so that many clients do not come back at once.
fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + rand::random::<f64>())
}

#[cfg(test)]
mod tests {
    use reqwest::StatusCode;
    use reqwest::header::HeaderMap;

    use super::super::failure::Refusal;
    use super::*;

    fn refused(status: u16, retry_after: Option<&str>) -> Failure {
        let mut headers = HeaderMap::new();
        if let Some(text) = retry_after {
            headers.insert("retry-after", text.parse().unwrap());
        }
        Failure::Refused(Box::new(Refusal::new(StatusCode::from_u16(status).unwrap(), &headers, b"")))
    }

    async fn attempts_after(failure: &Failure) -> u32 {
        let patience = Patience::default();
        let mut retries = Retries::new(&patience, 5);
        let mut attempts = 1;
        while retries.pause_after(failure.clone()).await.is_ok() {
            attempts += 1;
        }
        attempts
    }

    #[tokio::test(start_paused = true)]
    async fn what_may_heal_is_tried_again() {
        for failure in [Failure::broken("reset"), refused(429, None), refused(500, None), refused(503, None)]
        {
            assert_eq!(attempts_after(&failure).await, 5, "{failure}");
        }
        for failure in
            [Failure::invalid("nonsense"), refused(404, None), refused(400, None), refused(501, None)]
        {
            assert_eq!(attempts_after(&failure).await, 1, "{failure}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn pauses_grow_and_have_an_end() {
        let patience = Patience { longest_pause: Duration::from_secs(2), ..Patience::default() };
        let mut retries = Retries::new(&patience, 20);
        let begin = tokio::time::Instant::now();
        while retries.pause_after(Failure::broken("reset")).await.is_ok() {}
        let waited = begin.elapsed();
        assert!(waited > Duration::from_secs(10), "{waited:?}");
        assert!(waited < Duration::from_secs(20 * 3), "{waited:?}");
    }

    #[tokio::test(start_paused = true)]
    async fn the_registrys_wish_is_honoured_within_bounds() {
        let begin = tokio::time::Instant::now();
        let patience = Patience::default();
        Retries::new(&patience, 2).pause_after(refused(429, Some("7"))).await.unwrap();
        assert!(begin.elapsed() >= Duration::from_secs(7));
        assert!(Retries::new(&patience, 2).pause_after(refused(429, Some("86400"))).await.is_err());
    }
}
