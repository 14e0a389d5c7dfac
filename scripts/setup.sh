#!/usr/bin/env bash
# SPDX-License-Identifier: Apache-2.0
# Sets up the environments under .venv and says what it does. Running it again does nothing until a
# requirement file changes.
#
#   scripts/setup.sh                      everything
#   scripts/setup.sh backend blender-4.5  only these
set -euo pipefail
cd "$(dirname "$0")/.."
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1
export PIP_NO_COMPILE=1  # Python compiles what is used when it is used; of torch that is little

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }

# What the wheels of bpy, OpenCV and MediaPipe load from the system, as library:package of Debian.
LIBRARIES="libEGL.so.1:libegl1 libGL.so.1:libgl1 libX11.so.6:libx11-6 libXrender.so.1:libxrender1
libXfixes.so.3:libxfixes3 libXi.so.6:libxi6 libxkbcommon.so.0:libxkbcommon0 libSM.so.6:libsm6
libICE.so.6:libice6 libXext.so.6:libxext6 libXt.so.6:libxt6 libEGL_mesa.so.0:libegl-mesa0"

have_library() {
    ldconfig -p 2>/dev/null | grep -q "[[:space:]]$1 " || ls /usr/lib/*/"$1" >/dev/null 2>&1
}

apt_install() { # packages...
    say "installing Debian packages: $*"
    apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq \
        --no-install-recommends "$@" >/dev/null
}

install_libraries() {
    local entry missing=()
    [ "$(uname -s)" = Linux ] || return 0
    for entry in $LIBRARIES; do
        have_library "${entry%%:*}" || missing+=("${entry##*:}")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt_install "${missing[@]}"
    else
        fail "system libraries are missing; run: sudo apt-get install -y ${missing[*]}"
    fi
}

is_python() { # executable, version: does it run, is it that version and can it make environments?
    "$1" -c "import sys, ensurepip, venv; sys.exit(sys.version_info[:2] != (${2/./, }))" \
        >/dev/null 2>&1
}

find_python() { # version -> path, or nothing
    local candidate
    for candidate in "python$1" python3 "$HOME"/.pyenv/versions/"$1"*/bin/python \
            /usr/local/bin/python"$1" /opt/python*/bin/python"$1"; do
        if is_python "$candidate" "$1"; then
            "$candidate" -c 'import sys; print(sys.executable)'
            return
        fi
    done
}

need_python() { # version -> path; installs Debian's one where it may
    local found
    found=$(find_python "$1")
    if [ -z "$found" ] && [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
        apt_install "python$1" "python$1-venv" >&2 || true
        found=$(find_python "$1")
    fi
    [ -n "$found" ] || fail "Python $1 with venv is missing; run: sudo apt-get install -y \
python$1 python$1-venv"
    echo "$found"
}

make_environment() { # name, python: an empty environment unless a working one stands
    local home=".venv/$1"
    if ! "$home/bin/python" -m pip --version >/dev/null 2>&1; then
        say "creating $home with $("$2" --version)"
        rm -rf "$home"
        "$2" -m venv "$home"
    fi
}

stamp() { sha256sum scripts/setup.sh "$@" | sha256sum | cut -d' ' -f1; }

is_current() { # name, stamp
    [ "$(cat ".venv/$1/.setup-stamp" 2>/dev/null)" = "$2" ] &&
        "$PWD/.venv/$1/bin/python" -c pass >/dev/null 2>&1
}

setup_backend() { # python
    local mark pip=".venv/backend/bin/python -m pip install -qq"
    mark=$(stamp requirements/backend.txt requirements/mediapipe.txt pyproject.toml \
        shared/pyproject.toml)-$PWD
    if is_current backend "$mark"; then say ".venv/backend is up to date"; return; fi
    make_environment backend "$1"
    say "installing the backend (torch, numba, OpenCV, ...): a few minutes the first time"
    $pip -r requirements/backend.txt
    say "installing MediaPipe with its models"
    $pip --no-deps -r requirements/mediapipe.txt
    $pip --no-deps -e shared -e .
    say "compiled the splatting kernels in $(.venv/backend/bin/python -c \
        'from crowdgaussian.splat.rasterize import compile_kernels as run; print(f"{run():.1f}")') s"
    echo "$mark" >.venv/backend/.setup-stamp
}

setup_blender() { # Blender version, python
    local name="blender-$1" mark
    mark=$(stamp "requirements/$name.txt")
    if is_current "$name" "$mark"; then say ".venv/$name is up to date"; return; fi
    make_environment "$name" "$2"
    say "installing Blender $1 as a Python module (about 350 MB)"
    ".venv/$name/bin/python" -m pip install -qq -r "requirements/$name.txt"
    echo "$mark" >".venv/$name/.setup-stamp"
}

setup_docs() { # python
    local mark
    mark=$(stamp requirements/docs.txt)
    if is_current docs "$mark"; then say ".venv/docs is up to date"; return; fi
    make_environment docs "$1"
    say "installing mkdocs for the documentation"
    .venv/docs/bin/python -m pip install -qq -r requirements/docs.txt
    echo "$mark" >.venv/docs/.setup-stamp
}

setup_node() { # other people's readers of our files, for the tests; which are left out without npm
    local mark home=.venv/node
    if ! command -v npm >/dev/null; then
        say "no npm here: tests with readers from npm will be skipped"
        return
    fi
    mark=$(stamp tests/node/package.json tests/node/package-lock.json tests/node/.npmrc)
    if [ "$(cat "$home/.setup-stamp" 2>/dev/null)" = "$mark" ]; then
        say "$home is up to date"
        return
    fi
    say "installing readers of splats and glTF from npm for the tests (about 110 MB)"
    mkdir -p "$home"
    rm -f "$home/.setup-stamp"
    cp tests/node/package.json tests/node/package-lock.json tests/node/.npmrc "$home"
    if npm ci --silent --prefix "$home" >/dev/null; then
        echo "$mark" >"$home/.setup-stamp"
    else
        say "npm could not install them: tests with readers from npm will be skipped"
    fi
}

setup_all() { # the environments at the same time: each waits for its downloads
    local python311 python313 part failed=0 parts=()
    python311=$(need_python 3.11)
    python313=$(find_python 3.13)
    setup_backend "$python311" & parts+=($!)
    setup_blender 4.5 "$python311" & parts+=($!)
    if [ -n "$python313" ]; then
        setup_blender 5.2 "$python313" & parts+=($!)
    else
        say "no Python 3.13 here: Blender 5.2 is left out, Blender 4.5 does the work"
    fi
    setup_node & parts+=($!)
    for part in "${parts[@]}"; do wait "$part" || failed=1; done
    [ "$failed" = 0 ] || fail "an environment could not be made; see above, then run this again"
}

main() {
    local part python
    install_libraries
    for part in "${@:-all}"; do
        case "$part" in
            all) setup_all ;;
            backend) python=$(need_python 3.11); setup_backend "$python" ;;
            blender-4.5) python=$(need_python 3.11); setup_blender 4.5 "$python" ;;
            blender-5.2)
                python=$(find_python 3.13)
                [ -n "$python" ] || fail "Python 3.13 is missing; Blender 5.2 needs it"
                setup_blender 5.2 "$python" ;;
            node) setup_node ;;
            docs) python=$(need_python 3.11); setup_docs "$python" ;;
            *) fail "unknown part '$part'; choose from backend, blender-4.5, blender-5.2, node, docs" ;;
        esac
    done
}

main "$@"
