//! What the workers share: queue, lanes, attempts and results.
