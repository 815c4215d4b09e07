#!/usr/bin/env bash
# Install (as root on Debian or Ubuntu) or name the shared libraries that Open3D needs to draw off screen.
set -euo pipefail
packages=(libusb-1.0-0 libvulkan1 mesa-vulkan-drivers libgl1 libgomp1 libx11-6)
command -v dpkg-query >/dev/null || { echo "Open3D needs the equivalents of: ${packages[*]}"; exit 0; }
missing=()
for package in "${packages[@]}"; do
  dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  echo "Installing for off-screen drawing: ${missing[*]}"
  apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" >/dev/null
else
  echo "To draw BEV pictures off screen, run: sudo apt-get install -y ${missing[*]}"
fi
