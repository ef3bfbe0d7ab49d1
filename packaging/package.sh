#!/bin/sh
# Makes an archive, a Debian package or a container image of one executable. `cargo xtask dist` calls it.
#
#   package.sh archive|deb|image VERSION ARCH EXECUTABLE GENERATOR LICENCES OUT
#
# ARCH is x86_64 or aarch64. GENERATOR is a sameport that runs here: it prints the manual pages and the
# completions, also for an EXECUTABLE of another architecture. LICENCES is a file with the licences of
# the libraries in EXECUTABLE. The result is written into the directory OUT, and its name is printed.
#
# The same arguments and SOURCE_DATE_EPOCH give the same bytes.
set -eu
umask 022
export LC_ALL=C TZ=UTC
: "${SOURCE_DATE_EPOCH:?is not set}"

kind=$1 version=$2 arch=$3 executable=$4 generator=$5 licences=$6 out=$7
root=$(cd "$(dirname "$0")/.." && pwd)
stage=$(mktemp -d)
trap 'rm -rf "$stage"' EXIT
chmod 755 "$stage"

# put MODE SOURCE TARGET
put() {
    mkdir -p "$(dirname "$3")"
    install -m "$1" "$2" "$3"
}

# The files of every kind of package, below a prefix such as /usr.
common_files() {
    prefix=$1
    put 755 "$executable" "$prefix/bin/sameport"
    mkdir -p "$prefix/share/man/man1" "$prefix/share/bash-completion/completions" \
        "$prefix/share/zsh/$2" "$prefix/share/fish/vendor_completions.d"
    "$generator" manual --out "$prefix/share/man/man1"
    gzip -9n "$prefix"/share/man/man1/*.1
    "$generator" completions bash >"$prefix/share/bash-completion/completions/sameport"
    "$generator" completions zsh >"$prefix/share/zsh/$2/_sameport"
    "$generator" completions fish >"$prefix/share/fish/vendor_completions.d/sameport.fish"
    put 644 "$root/README.md" "$prefix/share/doc/sameport/README.md"
    (cd "$root/docs" && find . -type f) | while read -r page; do
        put 644 "$root/docs/$page" "$prefix/share/doc/sameport/docs/$page"
    done
    put 644 "$licences" "$prefix/share/doc/sameport/LICENCES-OF-LIBRARIES"
    gzip -9n "$prefix/share/doc/sameport/LICENCES-OF-LIBRARIES"
    examples=$prefix/share/doc/sameport/examples
    put 644 "$root/packaging/systemd/sameport-hardened.conf" "$examples/sameport-hardened.conf"
    put 644 "$root/packaging/systemd/sameport@web.socket" "$examples/sameport@web.socket"
}

# One time for every file and directory.
set_times() {
    find "$1" -depth -exec touch --no-dereference --date="@$SOURCE_DATE_EPOCH" {} +
}

archive() {
    name=sameport-$version-$arch-linux-musl
    tree=$stage/$name
    common_files "$tree" site-functions
    doc=$tree/share/doc/sameport
    put 644 "$root/CHANGELOG.md" "$doc/CHANGELOG.md"
    put 644 "$root/LICENSE-MIT" "$doc/LICENSE-MIT"
    put 644 "$root/LICENSE-APACHE" "$doc/LICENSE-APACHE"
    put 644 "$root/packaging/systemd/sameport@.service" "$doc/examples/sameport@.service"
    put 644 "$root/packaging/systemd/sameport-guard.service" "$doc/examples/sameport-guard.service"
    set_times "$tree"
    # Without directories: tar would give existing ones, such as /usr/local/bin, its owner and mode.
    (cd "$stage" && find "$name" -type f | sort) |
        tar --create --file=- --directory="$stage" --no-recursion --files-from=- --format=ustar \
            --owner=0 --group=0 --numeric-owner | gzip -9n >"$out/$name.tar.gz"
    echo "$name.tar.gz"
}

# The architecture, as Debian and container images name it.
other_arch() {
    case $arch in
        x86_64) echo amd64 ;;
        aarch64) echo arm64 ;;
        *) echo "package.sh: no other name for the architecture $arch" >&2; exit 2 ;;
    esac
}

# A tar archive of a directory, as one user's and of one time.
tar_of() {
    (cd "$1" && find . -mindepth 1 -printf '%P\n' | sort) |
        tar --create --file=- --directory="$1" --no-recursion --files-from=- --format=ustar \
            --owner=0 --group=0 --numeric-owner
}

# Adds a file to the blobs of the image, and prints its digest.
blob() {
    digest=$(sha256sum <"$1" | cut -d ' ' -f 1)
    mv "$1" "$tree/blobs/sha256/$digest"
    echo "$digest"
}

# An image without another file than the executable and the licences of its libraries. The archive has the
# layout of the Open Container Initiative and the manifest of `docker save`, so that every `docker load` and
# `podman load` reads it.
image() {
    image_arch=$(other_arch)
    reference=localhost/sameport:$version
    tree=$stage/image layer=$stage/layer
    mkdir -p "$tree/blobs/sha256"
    put 755 "$executable" "$layer/sameport"
    put 644 "$licences" "$layer/usr/share/doc/sameport/LICENCES-OF-LIBRARIES"
    gzip -9n "$layer/usr/share/doc/sameport/LICENCES-OF-LIBRARIES"
    set_times "$layer"
    tar_of "$layer" >"$stage/layer.tar"
    layer_size=$(stat --format=%s "$stage/layer.tar")
    layer_digest=$(blob "$stage/layer.tar")
    created=$(date --date="@$SOURCE_DATE_EPOCH" +%Y-%m-%dT%H:%M:%SZ)
    label=org.opencontainers.image
    cat >"$stage/config.json" <<END
{"created":"$created","architecture":"$image_arch","os":"linux",\
"config":{"Env":["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"],\
"Entrypoint":["/sameport"],"Cmd":["--help"],"Labels":{"$label.title":"sameport","$label.version":"$version",\
"$label.description":"Several programs, one port: shared, restarted without a lost connection, seen, guarded",\
"$label.licenses":"MIT OR Apache-2.0","$label.source":"https://github.com/sameport/sameport"}},\
"rootfs":{"type":"layers","diff_ids":["sha256:$layer_digest"]},\
"history":[{"created":"$created","created_by":"packaging/package.sh image"}]}
END
    config_size=$(stat --format=%s "$stage/config.json")
    config_digest=$(blob "$stage/config.json")
    oci=application/vnd.oci.image
    cat >"$stage/manifest.json" <<END
{"schemaVersion":2,"mediaType":"$oci.manifest.v1+json",\
"config":{"mediaType":"$oci.config.v1+json","digest":"sha256:$config_digest","size":$config_size},\
"layers":[{"mediaType":"$oci.layer.v1.tar","digest":"sha256:$layer_digest","size":$layer_size}]}
END
    manifest_size=$(stat --format=%s "$stage/manifest.json")
    manifest_digest=$(blob "$stage/manifest.json")
    echo '{"imageLayoutVersion":"1.0.0"}' >"$tree/oci-layout"
    cat >"$tree/index.json" <<END
{"schemaVersion":2,"mediaType":"$oci.index.v1+json","manifests":[{"mediaType":"$oci.manifest.v1+json",\
"digest":"sha256:$manifest_digest","size":$manifest_size,\
"platform":{"architecture":"$image_arch","os":"linux"},\
"annotations":{"io.containerd.image.name":"$reference","$label.ref.name":"$version"}}]}
END
    cat >"$tree/manifest.json" <<END
[{"Config":"blobs/sha256/$config_digest","RepoTags":["$reference"],"Layers":["blobs/sha256/$layer_digest"]}]
END
    set_times "$tree"
    name=sameport-$version-$image_arch-image.tar.gz
    tar_of "$tree" | gzip -9n >"$out/$name"
    echo "$name"
}

deb() {
    debian_arch=$(other_arch)
    name=sameport_$version-1_$debian_arch
    tree=$stage/$name
    mkdir -p "$tree/DEBIAN" "$tree/etc/sameport"
    common_files "$tree/usr" vendor-completions
    for unit in sameport@.service sameport-guard.service; do
        put 644 "$root/packaging/systemd/$unit" "$tree/lib/systemd/system/$unit"
    done
    doc=$tree/usr/share/doc/sameport
    put 644 "$root/packaging/debian/copyright" "$doc/copyright"
    put 644 "$root/CHANGELOG.md" "$doc/changelog"
    sed -e "s/@VERSION@/$version-1/" \
        -e "s/@DATE@/$(date --date="@$SOURCE_DATE_EPOCH" --rfc-email)/" \
        "$root/packaging/debian/changelog" >"$doc/changelog.Debian"
    gzip -9n "$doc/changelog" "$doc/changelog.Debian"
    put 644 "$root/packaging/debian/lintian-overrides" "$tree/usr/share/lintian/overrides/sameport"
    for script in postinst prerm postrm; do
        put 755 "$root/packaging/debian/$script" "$tree/DEBIAN/$script"
    done
    (cd "$tree" && find . -path ./DEBIAN -prune -o -type f -printf '%P\n' | sort | xargs md5sum) \
        >"$stage/md5sums"
    put 644 "$stage/md5sums" "$tree/DEBIAN/md5sums"
    # In KiB, each file rounded up, as in Debian policy 5.6.20.
    size=$(find "$tree" -path "$tree/DEBIAN" -prune -o -printf '%y %s\n' |
        awk '{ sum += $1 == "f" ? int(($2 + 1023) / 1024) : 1 } END { print sum }')
    sed -e "s/@VERSION@/$version-1/" -e "s/@ARCH@/$debian_arch/" -e "s/@SIZE@/$size/" \
        "$root/packaging/debian/control" >"$tree/DEBIAN/control"
    set_times "$tree"
    # xz is the compressor that every dpkg reads; its bytes depend on the number of threads.
    : "${DPKG_DEB_COMPRESSOR_TYPE:=xz}"
    export DPKG_DEB_COMPRESSOR_TYPE DPKG_DEB_THREADS_MAX=1
    dpkg-deb --root-owner-group --build "$tree" "$out/$name.deb" >/dev/null
    echo "$name.deb"
}

case $kind in
    archive | deb | image) "$kind" ;;
    *) echo "package.sh: $kind is not archive, deb or image" >&2; exit 2 ;;
esac
