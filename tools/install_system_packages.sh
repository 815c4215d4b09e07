#!/usr/bin/env bash
# Install (as root on Debian or Ubuntu) or name the shared libraries that Open3D needs to draw off screen.
set -euo pipefail
packages=(libegl1 libgl1 libgomp1 libidn2-0 libudev1 libusb-1.0-0 libvulkan1 libx11-6 mesa-vulkan-drivers)
command -v dpkg-query >/dev/null || { echo "Open3D needs the equivalents of: ${packages[*]}"; exit 0; }
missing=()
for package in "${packages[@]}"; do
  dpkg-query --show --showformat='${Status}' "$package" 2>/dev/null | grep -q 'ok installed' || missing+=("$package")
done
[ ${#missing[@]} -eq 0 ] && exit 0
if [ "$(id -u)" -eq 0 ] && command -v apt-get >/dev/null; then
  echo "Installing for off-screen drawing: ${missing[*]}"
  # Without them everything but drawing works, so that a failure here is told and not fatal.
  { apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "${missing[@]}" \
    >/dev/null; } || echo "could not install them; BEV pictures need: apt-get install -y ${missing[*]}"
else
  echo "To draw BEV pictures off screen, run: sudo apt-get install -y ${missing[*]}"
fi
