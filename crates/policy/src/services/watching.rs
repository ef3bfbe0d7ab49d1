//! Which services a changed file belongs to.

use std::path::Path;

use crate::model::name::RunName;

/// The services that restart when this file changes: those in the nearest directory above it, or all if it is
/// in none of theirs.
pub fn affected<'a>(
    path: &Path,
    services: impl Iterator<Item = (&'a RunName, &'a Path)>,
) -> Vec<RunName> {
    let services: Vec<(&RunName, &Path)> = services.collect();
    let depth = |directory: &Path| directory.components().count();
    let above = services.iter().filter(|(_, directory)| path.starts_with(directory));
    let nearest = above.map(|(_, directory)| depth(directory)).max();
    let is_affected = |directory: &Path| {
        nearest.is_none_or(|nearest| path.starts_with(directory) && depth(directory) == nearest)
    };
    let affected = services.iter().filter(|(_, directory)| is_affected(directory));
    affected.map(|(name, _)| (*name).clone()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_nearest_directory_counts() {
        let names: Vec<RunName> = ["web", "api", "jobs"].map(|it| it.parse().unwrap()).into();
        let directories = ["/srv", "/srv/api", "/srv/api"].map(Path::new);
        for (path, expected) in [
            ("/srv/a.py", "web"),
            ("/srv/api/b.py", "api jobs"),
            ("/srv/api/deep/b.py", "api jobs"),
            ("/srv/apis/b.py", "web"),
            ("/lib/c.py", "web api jobs"),
        ] {
            let services = names.iter().zip(directories);
            let affected = affected(Path::new(path), services);
            let affected: Vec<&str> = affected.iter().map(RunName::as_str).collect();
            assert_eq!(affected.join(" "), expected, "{path}");
        }
    }
}
