//! Request methods and sets of them.
//!
//! The head reader recognises methods, routing compares them with the [`MethodSet`] of a resource.
//! Whether an unknown method is answered with 501 is the caller's choice (U-65); its spelling stays
//! in the head.

use std::fmt;

/// A request method. Methods are case-sensitive (RFC 9110 §9.1), so `get` is [`Method::Other`].
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[repr(u8)]
pub enum Method {
    /// Transfer a representation of the target.
    Get,
    /// As GET, without the content.
    Head,
    /// Process the content of the request.
    Post,
    /// Replace the target.
    Put,
    /// Remove the target.
    Delete,
    /// Make a tunnel to the authority that is the target.
    Connect,
    /// Describe the communication options.
    Options,
    /// Echo the request.
    Trace,
    /// Change the target partly (RFC 5789).
    Patch,
    /// Any other token.
    Other,
}

impl Method {
    /// The methods that have a name, in the order in which Allow lists them.
    pub const NAMED: [Self; 9] = [
        Self::Get,
        Self::Head,
        Self::Post,
        Self::Put,
        Self::Delete,
        Self::Connect,
        Self::Options,
        Self::Trace,
        Self::Patch,
    ];

    /// Bytes of the longest name.
    pub const BYTES_MAX: usize = Self::Connect.as_str().len();

    /// The method spelled by `bytes`.
    #[inline]
    pub fn from_bytes(bytes: &[u8]) -> Self {
        match bytes {
            b"GET" => Self::Get,
            b"HEAD" => Self::Head,
            b"POST" => Self::Post,
            b"PUT" => Self::Put,
            b"DELETE" => Self::Delete,
            b"CONNECT" => Self::Connect,
            b"OPTIONS" => Self::Options,
            b"TRACE" => Self::Trace,
            b"PATCH" => Self::Patch,
            _ => Self::Other,
        }
    }

    /// Whether asking twice is as asking once (RFC 9110 §9.2.2).
    pub(crate) const fn is_idempotent(self) -> bool {
        !matches!(self, Self::Post | Self::Patch | Self::Connect | Self::Other)
    }

    /// Whether Max-Forwards says how far a request of the method may go (RFC 9110 §7.6.2).
    pub(crate) const fn is_hop_counted(self) -> bool {
        matches!(self, Self::Trace | Self::Options)
    }

    /// The method's name; empty for [`Method::Other`], whose spelling only the head knows.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Get => "GET",
            Self::Head => "HEAD",
            Self::Post => "POST",
            Self::Put => "PUT",
            Self::Delete => "DELETE",
            Self::Connect => "CONNECT",
            Self::Options => "OPTIONS",
            Self::Trace => "TRACE",
            Self::Patch => "PATCH",
            Self::Other => "",
        }
    }

    const fn bit(self) -> u16 {
        1 << self as u16
    }
}

/// A set of methods. It displays as the value of an Allow field: `GET, HEAD`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct MethodSet(u16);

impl MethodSet {
    /// No method.
    pub const EMPTY: Self = Self(0);
    /// Every method, unknown ones included.
    pub const ALL: Self = Self::of(&Method::NAMED).with(Method::Other);

    /// The set of `methods`.
    #[expect(
        clippy::indexing_slicing,
        reason = "below the length, and a constant function has no iterators"
    )]
    pub const fn of(methods: &[Method]) -> Self {
        let mut set = Self::EMPTY;
        let mut index = 0;
        while index < methods.len() {
            set = set.with(methods[index]);
            index += 1;
        }
        set
    }

    /// This set and `method`.
    #[must_use]
    pub const fn with(self, method: Method) -> Self {
        Self(self.0 | method.bit())
    }

    /// The methods in either set.
    #[must_use]
    pub const fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether `method` is in the set. One bit stands for all unknown methods.
    #[inline]
    pub const fn contains(self, method: Method) -> bool {
        self.0 & method.bit() != 0
    }

    /// Whether the set is empty.
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }

    /// The named methods of the set, in the order of [`Method::NAMED`].
    pub fn iter(self) -> impl Iterator<Item = Method> {
        Method::NAMED.into_iter().filter(move |method| self.contains(*method))
    }
}

impl fmt::Display for MethodSet {
    /// RFC 9110 §10.2.1: Allow is a comma list. Unknown methods have no name to list.
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, method) in self.iter().enumerate() {
            let separator = if index == 0 { "" } else { ", " };
            write!(formatter, "{separator}{}", method.as_str())?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_name_reads_back_as_its_method() {
        for method in Method::NAMED {
            assert_eq!(Method::from_bytes(method.as_str().as_bytes()), method);
            assert!(method.as_str().len() <= Method::BYTES_MAX);
        }
    }

    #[test]
    fn u_65_methods_are_case_sensitive() {
        for name in ["get", "Get", "BREW", "GETS", "GE", ""] {
            assert_eq!(Method::from_bytes(name.as_bytes()), Method::Other, "{name}");
        }
    }

    #[test]
    fn a_set_renders_as_an_allow_value() {
        const SET: MethodSet = MethodSet::of(&[Method::Head, Method::Get]);
        assert_eq!(SET.to_string(), "GET, HEAD");
        assert_eq!(MethodSet::EMPTY.to_string(), "");
        assert_eq!(SET.with(Method::Other).to_string(), "GET, HEAD");
    }

    #[test]
    fn a_set_contains_what_was_put_in() {
        let set = MethodSet::of(&[Method::Put]).union(MethodSet::of(&[Method::Patch]));
        assert!(set.contains(Method::Put) && set.contains(Method::Patch));
        assert!(!set.contains(Method::Get) && !set.contains(Method::Other));
        assert!(MethodSet::ALL.contains(Method::Other));
        assert!(MethodSet::EMPTY.is_empty() && !set.is_empty());
    }
}
