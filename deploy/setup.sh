# shellcheck shell=bash
# Sourced by deploy/quickstart and tests/run: finds or installs what they need on Debian and Ubuntu, and says plainly where it
# cannot. It changes nothing that is already there. Expects `set -euo pipefail` and $ROOT, the checkout.

say() { printf '==> %s\n' "$*"; }
note() { printf '    %s\n' "$*"; }
die() {
  printf '\n%s: %s\n' "${0##*/}" "$1" >&2
  shift
  for line in "$@"; do printf '  %s\n' "$line" >&2; done
  exit 1
}
have() { command -v "$1" >/dev/null 2>&1; }

as_root() {
  if [ "$(id -u)" -eq 0 ]; then
    "$@"
  elif have sudo; then
    sudo -- "$@"
  else
    return 127
  fi
}

# need COMMAND PACKAGE: remembers PACKAGE for install_packages where COMMAND is missing.
missing_packages=()
need() {
  have "$1" || [ -x "/usr/sbin/$1" ] || missing_packages+=("$2")
}

# Installs what `need` found missing. Daemons that come with a package (nginx) are not started.
install_packages() {
  [ "${#missing_packages[@]}" -gt 0 ] || return 0
  local wanted=("${missing_packages[@]}") policy=/usr/sbin/policy-rc.d made_policy=
  missing_packages=()
  say "installing: ${wanted[*]}"
  if [ -n "${REELGATE_NO_INSTALL:-}" ]; then
    die "these packages are missing, and REELGATE_NO_INSTALL is set: ${wanted[*]}"
  fi
  have apt-get || die "these are missing: ${wanted[*]}" \
    "apt-get is not here, so this is neither Debian nor Ubuntu: install them by your own means and run again."
  if [ "$(id -u)" -ne 0 ] && ! have sudo; then
    die "these packages are missing: ${wanted[*]}" "run as root, or install sudo, or:" "apt-get install ${wanted[*]}"
  fi
  if [ ! -e "$policy" ]; then
    printf '#!/bin/sh\nexit 101\n' | as_root tee "$policy" >/dev/null && as_root chmod 755 "$policy" && made_policy=1
  fi
  local done_well=
  if as_root apt-get -q -o DPkg::Lock::Timeout=300 update &&
    as_root env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o DPkg::Lock::Timeout=300 install --no-install-recommends "${wanted[@]}"; then
    done_well=1
  fi
  [ -z "$made_policy" ] || as_root rm -f "$policy"
  [ -n "$done_well" ] || die "apt-get could not install: ${wanted[*]}" \
    "Its messages are above. Without a network, install these packages from your mirror and run again."
}

# A number to compare: 1.95.0 → 1095, none → 0.
version_number() {
  [[ $1 =~ ^[0-9] ]] || { printf 0; return; }
  local major minor
  IFS=. read -r major minor _ <<<"$1"
  printf '%d' "$((major * 1000 + ${minor:-0}))"
}

# Makes `cargo` at least the rust-version of Cargo.toml: the present one, else rustup's.
need_rust() {
  local wanted found
  wanted=$(sed -n 's/^rust-version *= *"\([0-9.]*\)".*/\1/p' "$ROOT/Cargo.toml")
  export PATH="$PATH:${CARGO_HOME:-$HOME/.cargo}/bin"
  found=$(rust_version)
  if [ "$(version_number "$found")" -ge "$(version_number "$wanted")" ]; then
    note "Rust $found"
    return
  fi
  [ -z "${REELGATE_NO_INSTALL:-}" ] || die "Rust $wanted or newer is needed (found: $found), and REELGATE_NO_INSTALL is set"
  say "installing Rust (found $found, $wanted or newer is needed)"
  if have rustup; then
    rustup toolchain install stable --profile minimal --component clippy --component rustfmt || no_rust "$wanted" "$found"
    export RUSTUP_TOOLCHAIN=stable
  else
    local installer
    installer=$(mktemp)
    curl --proto '=https' --tlsv1.2 -sSf --retry 3 -o "$installer" https://sh.rustup.rs || no_rust "$wanted" "$found"
    sh "$installer" -y -q --profile minimal --component clippy --component rustfmt || no_rust "$wanted" "$found"
    rm -f "$installer"
  fi
  # rustup's cargo goes before an older one of the distribution's.
  export PATH="${CARGO_HOME:-$HOME/.cargo}/bin:$PATH"
  hash -r
  found=$(rust_version)
  [ "$(version_number "$found")" -ge "$(version_number "$wanted")" ] || no_rust "$wanted" "$found"
}

rust_version() {
  local text
  text=$(cd "$ROOT" && cargo --version 2>/dev/null) && (cd "$ROOT" && rustc --version >/dev/null 2>&1) || text="none none"
  cut -d' ' -f2 <<<"$text"
}

no_rust() {
  die "Rust $1 or newer is needed (found: $2), and rustup could not install it" \
    "Its messages are above; perhaps https://sh.rustup.rs is out of reach from here." \
    "Install Rust $1 or newer by other means (https://rustup.rs, your mirror) and run again."
}

# Where npm's packages of FOLDER are not those of its lock file: installs them.
npm_install() {
  local folder=$1 lock_sum
  lock_sum=$(cksum <"$folder/package-lock.json")
  [ "$(cat "$folder/node_modules/.installed" 2>/dev/null)" != "$lock_sum" ] || return 0
  (cd "$folder" && npm ci --ignore-scripts --no-audit --no-fund --loglevel=error) || return 1
  printf '%s\n' "$lock_sum" >"$folder/node_modules/.installed"
}

# Whether Node 18 or newer, and npm, are here.
have_node() {
  have node && have npm && [ "$(node -p 'process.versions.node.split(".")[0]' 2>/dev/null || echo 0)" -ge 18 ]
}

# Builds the library and player pages, which cargo then embeds, where their sources are newer than what was built.
build_page() {
  local page=$ROOT/src/page
  if [ -e "$page/dist/sw.js" ] &&
    [ -z "$(find "$page" -path "$page/node_modules" -prune -o -path "$page/dist" -prune -o -type f -newer "$page/dist/sw.js" -print -quit)" ]; then
    return 0
  fi
  npm_install "$page" && (cd "$page" && npm run --silent build)
}

# A port nobody listens on, below the range of outgoing connections.
free_port() {
  local port
  while :; do
    port=$((10000 + (RANDOM * 32768 + RANDOM) % 22000))
    (: <"/dev/tcp/127.0.0.1/$port") 2>/dev/null || break
  done
  printf '%s' "$port"
}
