//! Where data may go: `allowTargets` of `settings{}`.
//!
//! **In → Out:** `"10.8.0.0/24"`, `"2001:db8::/32"`, `"*.example.no"`; whether a name or an address is
//! among them. Pure: who finds out where a host leads is `transport`.
//! **Invariants:** an address is judged by networks alone, a name by name patterns alone; nothing that
//! does not parse is taken for something else.

use std::net::IpAddr;

/// Networks and names that data may be sent to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Allowed {
    rules: Option<Vec<Rule>>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
enum Rule {
    /// An address and how many of its leading bits count.
    Network(IpAddr, u32),
    /// A name, lower case.
    Name(String),
    /// What a name ends with, the leading dot included.
    Below(String),
}

impl Allowed {
    /// Reads the rules; no rules at all allow this host alone.
    ///
    /// # Errors
    /// The rule that does not parse.
    pub fn parse(rules: &[String]) -> Result<Self, String> {
        let parsed: Result<Vec<Rule>, String> =
            rules.iter().map(|text| parse(text).ok_or_else(|| text.clone())).collect();
        Ok(Self { rules: Some(parsed?) })
    }

    /// Whether there is anywhere that data may not go.
    pub fn is_limited(&self) -> bool {
        self.rules.is_some()
    }

    /// Whether data may go to a host of this name, wherever it stands: its host key says that it is it.
    pub fn allows_name(&self, name: &str) -> bool {
        let Some(rules) = &self.rules else { return true };
        let name = name.trim_end_matches('.').to_ascii_lowercase();
        name.parse::<IpAddr>().is_err()
            && rules.iter().any(|rule| match rule {
                Rule::Network(..) => false,
                Rule::Name(allowed) => *allowed == name,
                Rule::Below(end) => name.strip_suffix(end.as_str()).is_some_and(|first| !first.is_empty()),
            })
    }

    /// Whether data may go to this address.
    pub fn allows_address(&self, address: IpAddr) -> bool {
        let Some(rules) = &self.rules else { return true };
        let address = address.to_canonical();
        rules.iter().any(|rule| match rule {
            Rule::Network(network, bits) => within(address, *network, *bits),
            Rule::Name(_) | Rule::Below(_) => false,
        })
    }
}

fn parse(text: &str) -> Option<Rule> {
    let (address, bits) = match text.split_once('/') {
        Some((address, bits)) => (address, Some(bits)),
        None => (text, None),
    };
    if let Ok(address) = address.parse::<IpAddr>() {
        let most = if address.is_ipv4() { 32 } else { 128 };
        let digits = |bits: &str| bits.bytes().all(|byte| byte.is_ascii_digit());
        let bits = match bits {
            None => most,
            Some(bits) => bits.parse().ok().filter(|&given| digits(bits) && given <= most)?,
        };
        return Some(Rule::Network(address, bits));
    }
    let name = text.trim_end_matches('.').to_ascii_lowercase();
    let (below, bare) = name.strip_prefix("*.").map_or((false, name.as_str()), |bare| (true, bare));
    let plain = |label: &str| {
        !label.is_empty() && label.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"-_".contains(&byte))
    };
    // What looks like an address and is none would never match.
    let lettered = bare.bytes().any(|byte| byte.is_ascii_alphabetic());
    if !lettered || !bare.split('.').all(plain) {
        return None;
    }
    Some(if below { Rule::Below(format!(".{bare}")) } else { Rule::Name(bare.to_owned()) })
}

fn within(address: IpAddr, network: IpAddr, bits: u32) -> bool {
    let (a, b, width) = match (address, network) {
        (IpAddr::V4(a), IpAddr::V4(b)) => (u128::from(u32::from(a)), u128::from(u32::from(b)), 32),
        (IpAddr::V6(a), IpAddr::V6(b)) => (u128::from(a), u128::from(b), 128),
        _ => return false,
    };
    // A shift by the whole width is none that the processor has.
    (a ^ b).checked_shr(width - bits.min(width)).unwrap_or(0) == 0
}

#[cfg(test)]
mod tests {
    use super::*;

    fn allowed(rules: &[&str]) -> Allowed {
        Allowed::parse(&rules.iter().map(|rule| (*rule).to_owned()).collect::<Vec<_>>()).unwrap()
    }

    #[test]
    fn addresses_are_judged_by_networks_alone() {
        let all = allowed(&["10.8.0.0/24", "192.0.2.7", "2001:db8::/33", "*.example.no"]);
        for good in ["10.8.0.0", "10.8.0.255", "192.0.2.7", "2001:db8:7fff::1", "::ffff:10.8.0.9"] {
            assert!(all.allows_address(good.parse().unwrap()), "{good}");
        }
        for bad in ["10.8.1.0", "10.7.255.255", "192.0.2.8", "2001:db8:8000::", "::10.8.0.1", "127.0.0.1"] {
            assert!(!all.allows_address(bad.parse().unwrap()), "{bad}");
            assert!(!all.allows_name(bad), "{bad}");
        }
        assert!(allowed(&["0.0.0.0/0"]).allows_address("203.0.113.9".parse().unwrap()));
        assert!(!allowed(&["0.0.0.0/0"]).allows_address("2001:db8::1".parse().unwrap()));
        assert!(allowed(&["::/0"]).allows_address("2001:db8::1".parse().unwrap()));
    }

    #[test]
    fn names_are_judged_by_patterns_from_their_end() {
        let all = allowed(&["*.example.no", "Web2.lan", "10.0.0.0/8"]);
        for good in ["a.example.no", "b.a.Example.NO.", "web2.lan", "WEB2.LAN."] {
            assert!(all.allows_name(good), "{good}");
        }
        for bad in ["example.no", "badexample.no", ".example.no", "a.example.no.evil.org", "x.web2.lan", ""] {
            assert!(!all.allows_name(bad), "{bad}");
        }
    }

    #[test]
    fn no_rules_forbid_everything_and_no_setting_nothing() {
        assert!(!allowed(&[]).allows_name("web2") && !allowed(&[]).allows_address([10, 0, 0, 1].into()));
        assert!(Allowed::default().allows_name("web2"));
        assert!(Allowed::default().allows_address([10, 0, 0, 1].into()));
    }

    #[test]
    fn what_is_neither_network_nor_name_is_an_error() {
        for bad in [
            "",
            "*",
            "10.8.0.0/33",
            "10.8.0",
            "10.8.0.0/+8",
            "2001:db8::/129",
            "a*.no",
            "*.*.no",
            "a/8",
            "1.2.3.x y",
        ] {
            assert_eq!(Allowed::parse(&[bad.to_owned()]), Err(bad.to_owned()), "{bad:?}");
        }
    }
}
