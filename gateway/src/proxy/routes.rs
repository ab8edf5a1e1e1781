//! Which route a path belongs to, and what a route keeps while its settings are replaced.

use super::figures::Figures;
use super::pace::Pace;
use super::upstream::{Address, Upstream};
use crate::config::ProxyRoute;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

/// The routes of a configuration.
#[derive(Debug, Default)]
pub struct Routes {
    /// The longest path first: the first that fits is the one.
    routes: Vec<Arc<Route>>,
}

/// One route: its settings, and what all cores share of it.
#[derive(Debug)]
pub struct Route {
    /// As configured.
    pub settings: ProxyRoute,
    pub(super) pace: Option<Arc<Pace>>,
    /// What the route is called among the sales that share tokens; no sale has such an id.
    pub(super) shared_name: Arc<str>,
    pub(super) in_flight: Arc<AtomicUsize>,
    pub(super) upstreams: Vec<Arc<Upstream>>,
    pub(super) turn: AtomicUsize,
    /// What became of its requests.
    pub figures: Arc<Figures>,
}

impl Routes {
    /// The routes of these settings. A route that was in `before` by the same name goes on counting, and keeps its
    /// connections to upstreams that it still has; with the same tokens it keeps those too, so that a reload lets no
    /// further burst through.
    pub fn new(settings: &[ProxyRoute], before: Option<&Self>) -> Self {
        let mut routes: Vec<_> = settings
            .iter()
            .map(|settings| {
                let all = before.map_or(&[][..], |before| &before.routes[..]);
                let before = all.iter().find(|route| route.settings.name == settings.name);
                Arc::new(Route::new(settings.clone(), before.map(|route| &**route)))
            })
            .collect();
        routes.sort_by_key(|route| std::cmp::Reverse(route.settings.path.len()));
        Self { routes }
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.routes.is_empty()
    }

    /// The route of a canonical path; the longest wins. The gateway's own paths have none.
    pub fn find(&self, path: &str) -> Option<&Arc<Route>> {
        if path == "/v1" || path.starts_with("/v1/") {
            return None;
        }
        self.routes.iter().find(|route| {
            let own = &*route.settings.path;
            if own.ends_with('/') { path.starts_with(own) } else { path == own }
        })
    }

    /// All of them.
    pub fn all(&self) -> &[Arc<Route>] {
        &self.routes
    }
}

impl Route {
    fn new(settings: ProxyRoute, before: Option<&Self>) -> Self {
        let pace = settings.tokens.map(|tokens| match before.and_then(|before| before.pace.as_ref()) {
            Some(pace) if pace.is_of(&tokens) => pace.clone(),
            Some(pace) => Arc::new(pace.changed(tokens)),
            None => Arc::new(Pace::new(tokens)),
        });
        let upstream = |address: &Address| {
            // How a server's certificate is checked may have changed: then no connection of before is good.
            let same = before.filter(|_| !address.https);
            let kept = same.and_then(|before| before.upstreams.iter().find(|kept| kept.address == *address));
            kept.cloned().unwrap_or_else(|| Arc::new(Upstream::new(address.clone())))
        };
        Self {
            pace,
            shared_name: format!("proxy:{}", settings.name).into(),
            in_flight: before.map_or_else(Arc::default, |before| before.in_flight.clone()),
            upstreams: settings.upstreams.iter().map(upstream).collect(),
            turn: AtomicUsize::new(0),
            figures: before.map_or_else(Arc::default, |before| before.figures.clone()),
            settings,
        }
    }

    /// A place among the requests at the upstreams; `None`: all are taken.
    pub(super) fn enter(&self) -> Option<Flight> {
        let flight = Flight(self.in_flight.clone());
        let before = self.in_flight.fetch_add(1, Ordering::Relaxed);
        (before < self.settings.in_flight_max).then_some(flight)
    }

    /// What stands before an upstream for `path`, a canonical path of this route, and the query.
    pub(crate) fn target(&self, path: &str, query: Option<&str>) -> String {
        let (own, theirs) = (&*self.settings.path, &*self.settings.upstream_path);
        let rest = path.strip_prefix(own).unwrap_or("");
        let mut target = String::with_capacity(theirs.len() + rest.len() + query.map_or(0, |q| q.len() + 1));
        target.push_str(theirs);
        target.push_str(rest);
        if let Some(query) = query {
            target.push('?');
            target.push_str(query);
        }
        target
    }
}

/// A request at the upstreams, until its answer is told.
#[derive(Debug)]
pub(super) struct Flight(Arc<AtomicUsize>);

impl Drop for Flight {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Config;

    fn routes(text: &str, before: Option<&Routes>) -> Routes {
        let config = Config::parse(std::path::Path::new("t.toml"), text, std::iter::empty()).0;
        Routes::new(&config.unwrap_or_else(|problems| panic!("{problems:?}")).proxy, before)
    }

    const UPSTREAM: &str = "upstream = \"http://127.0.0.1:9000\"\n";

    #[test]
    fn the_longest_path_wins_and_the_gateways_own_are_nobodys() {
        let route = |name, path| format!("[[proxy]]\nname = \"{name}\"\npath = \"{path}\"\n{UPSTREAM}");
        let text = [("all", "/"), ("shop", "/shop/"), ("one", "/shop/one"), ("deep", "/shop/deep/")]
            .map(|(name, path)| route(name, path))
            .concat();
        let routes = routes(&text, None);
        let find = |path| routes.find(path).map(|route| route.settings.name.clone());
        for (path, name) in [
            ("/", "all"),
            ("/shop", "all"),
            ("/shop/", "shop"),
            ("/shop/x", "shop"),
            ("/shop/one", "one"),
            ("/shop/one/", "shop"),
            ("/shop/one2", "shop"),
            ("/shop/deep/x", "deep"),
            ("/v1x", "all"),
        ] {
            assert_eq!(find(path).as_deref(), Some(name), "{path}");
        }
        assert_eq!((find("/v1"), find("/v1/sales/x/orders"), find("/v1/")), (None, None, None));
    }

    #[test]
    fn a_path_is_rewritten_in_front_only() {
        let with = |path: &str, theirs: &str| {
            let text = format!(
                "[[proxy]]\nname = \"a\"\npath = \"{path}\"\nupstream_path = \"{theirs}\"\n{UPSTREAM}"
            );
            routes(&text, None).all()[0].clone()
        };
        assert_eq!(with("/shop/", "/").target("/shop/shop/x", Some("a=/shop/")), "/shop/x?a=/shop/");
        assert_eq!(with("/shop/", "/app/").target("/shop/", None), "/app/");
        assert_eq!(with("/page", "/index.html").target("/page", Some("")), "/index.html?");
    }

    #[test]
    fn a_reload_keeps_tokens_that_are_the_same_and_places_that_are_taken() {
        let text = |rate| {
            format!(
                "[[proxy]]\nname = \"a\"\npath = \"/a/\"\nrate_per_s = {rate}\nin_flight_max = 1\n{UPSTREAM}"
            )
        };
        let first = routes(&text(5), None);
        let flight = first.all()[0].enter().unwrap();
        let second = routes(&text(5), Some(&first));
        let (old, new) = (&first.all()[0], &second.all()[0]);
        assert!(Arc::ptr_eq(old.pace.as_ref().unwrap(), new.pace.as_ref().unwrap()));
        assert!(Arc::ptr_eq(&old.upstreams[0], &new.upstreams[0]));
        assert!(new.enter().is_none(), "the request of before is still there");
        drop(flight);
        assert!(new.enter().is_some());
        let third = routes(&text(6), Some(&second));
        assert!(!Arc::ptr_eq(new.pace.as_ref().unwrap(), third.all()[0].pace.as_ref().unwrap()));
    }
}
