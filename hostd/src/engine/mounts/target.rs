//! Places in a container, as text: nothing here looks at files.

/// The shortest way to write an absolute path; nothing leads above its root.
pub(super) fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// What lies deeper is mounted later.
pub(super) fn depth(clean: &str) -> usize {
    clean.split('/').filter(|part| !part.is_empty()).count()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clean_path_has_no_way_up_and_no_needless_slash() {
        for (path, cleaned, parts) in
            [("/a//b/./c/", "/a/b/c", 3), ("/../a/../b", "/b", 1), ("/", "/", 0), ("/..", "/", 0)]
        {
            assert_eq!((clean(path).as_str(), depth(&clean(path))), (cleaned, parts), "{path}");
        }
    }

    proptest::proptest! {
        #[test]
        fn cleaning_twice_is_cleaning_once(path in "/[a./]{0,12}") {
            let once = clean(&path);
            proptest::prop_assert!(once.starts_with('/') && !once.contains("//") && !once.contains("/../"));
            proptest::prop_assert_eq!(clean(&once), once);
        }
    }
}
