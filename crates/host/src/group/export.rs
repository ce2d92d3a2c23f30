//! Exports of the host's own NFS server.

use ::guard::group::Step;

use super::steps::Place;

pub(super) async fn export(
    place: &Place,
    path: &str,
    client: &str,
    options: &[String],
    step: Step,
) -> Result<(), String> {
    // exports(5): an IPv6 address that stands before a colon is written in brackets.
    let what = if client.contains(':') {
        format!("[{client}]:{path}")
    } else {
        format!("{client}:{path}")
    };
    match step {
        Step::Start if options.is_empty() => place.call(&["exportfs", &what]).await,
        Step::Start => place.call(&["exportfs", "-o", &options.join(","), &what]).await,
        Step::Check if is_listed(&listed(place).await?, path, None) => Ok(()),
        Step::Check => Err(format!("{path} is not exported any more")),
        Step::Stop | Step::Kill => {
            // The path may be exported to others; what was not exported cannot be taken back.
            if is_listed(&listed(place).await?, path, None) {
                place.tell(&["exportfs", "-u", &what]).await?;
                if is_listed(&listed(place).await?, path, Some(client)) {
                    return Err(format!("{path} stays exported to {client}"));
                }
            }
            // Else the server holds on to the file system for a while, and it stays busy.
            place.call(&["exportfs", "-f"]).await
        }
    }
}

/// In the form of exports(5): a path, blanks, a client with its options in brackets.
async fn listed(place: &Place) -> Result<String, String> {
    place.ask(&["exportfs", "-s"]).await
}

fn is_listed(said: &str, path: &str, to: Option<&str>) -> bool {
    said.lines().any(|line| {
        let mut words = line.split_whitespace();
        let is_path = words.next() == Some(path);
        let client = words.next().and_then(|word| word.split('(').next());
        is_path && (to.is_none() || client == to)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_export_of_the_path_to_another_client_is_not_this_one() {
        let said = "/mnt            10.77.0.0/24(sync,wdelay,rw)\n/mnt\tfd00::/64(ro)\n";
        assert!(is_listed(said, "/mnt", None) && is_listed(said, "/mnt", Some("fd00::/64")));
        assert!(!is_listed(said, "/mnt", Some("10.77.1.0/24")));
        assert!(!is_listed(said, "/mnt/a", None));
    }
}
