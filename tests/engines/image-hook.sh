#!/bin/sh
# Run by mmdebstrap on the tree that it made: root folder, archive of the plain image, requirements.
# What follows the plain image's archive is the other image.
set -eu
root=$1 plain=$2 requirements=$3
for file in /etc/pip.conf /etc/ssl/certs/ca-certificates.crt; do
    if [ -f "$file" ]; then cp "$file" "$root$file"; fi
done
rm -f "$root"/usr/lib/python3*/EXTERNALLY-MANAGED
ln -sf python3 "$root/usr/bin/python"
tar -C "$root" --exclude='./var/lib/apt/lists/*' --exclude='./var/cache/apt/*' --exclude='./tmp/*' \
    --exclude='./dev/*' --exclude='./proc/*' --exclude='./sys/*' -cf "$plain" .
cp "$requirements" "$root/tmp/requirements.txt"
chroot "$root" pip install -q --no-cache-dir --root-user-action=ignore -r /tmp/requirements.txt
rm "$root/tmp/requirements.txt"
