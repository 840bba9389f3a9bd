#!/bin/sh
# Installs Debian packages into the Debian below ROOT, and leaves what belongs into an image's layer:
#
#     unshare --mount sh install.sh ROOT PACKAGE...
#
# The mounts made here go with the mount namespace. Nothing is started, and nothing is written outside ROOT.
set -eu
root=$1
shift

mount --make-rprivate /
mount -t proc proc "$root/proc"
mount --rbind /dev "$root/dev"

cp /etc/resolv.conf "$root/etc/resolv.conf"
printf '#!/bin/sh\nexit 101\n' > "$root/usr/sbin/policy-rc.d"
chmod 755 "$root/usr/sbin/policy-rc.d"
# A cluster is made by a container at its first start, not by the package.
mkdir -p "$root/etc/postgresql-common"
echo 'create_main_cluster = false' > "$root/etc/postgresql-common/createcluster.conf"

export DEBIAN_FRONTEND=noninteractive
chroot "$root" apt-get --quiet update
chroot "$root" apt-get --quiet --yes --no-install-recommends install "$@"
# Debian's wrappers of PostgreSQL's programs are written in Perl, which is larger than those.
for program in "$root"/usr/lib/postgresql/*/bin/*; do
    [ ! -e "$program" ] || ln -s "${program#"$root"}" "$root/usr/local/bin/"
done

cd "$root"
rm -f etc/resolv.conf etc/machine-id usr/sbin/policy-rc.d
# Differs each time.
rm -rf etc/ssl/private/* etc/ssl/certs/ssl-cert-snakeoil.pem etc/ssl/certs/????????.0
rm -rf var/lib/apt/lists/* var/cache/* tmp/* run/*
find var/log -type f -delete
find var/lib -name '*-old' -delete
# What no server reads. LLVM is for a compiler of queries, which PostgreSQL works without.
rm -rf usr/share/doc usr/share/man usr/share/info usr/share/locale usr/share/i18n usr/share/perl
rm -rf usr/lib/*/perl usr/lib/*/libperl.so.* usr/lib/*/libLLVM* usr/lib/*/libz3.so.*
rm -rf usr/lib/postgresql/*/lib/llvmjit* usr/lib/postgresql/*/lib/bitcode
