#!/bin/busybox sh
# shellcheck shell=dash
# The init of a test guest. Addresses come on the kernel command line, commands on the second serial port:
#
#   homeport.address=192.0.2.7/24,2001:db8::7/64   for eth0, in order
#   homeport.gateway=192.0.2.1,2001:db8::1
#   homeport.mtu=1400
#   homeport.nics=0                                wait for no NIC
#   homeport.probe=1                               power off at once: the boot was all that mattered
#
# A command is one line; its output is answered with a line that ends in "\001<exit code>\001".
/bin/busybox mkdir -p /bin /proc /sys /dev /run /tmp
/bin/busybox --install -s /bin
export PATH=/bin HOME=/tmp
mount -t proc proc /proc
mount -t sysfs sys /sys
mount -t devtmpfs dev /dev 2>/dev/null
for module in /modules/*.ko; do insmod "$module"; done

value() { # the value of a word on the kernel command line, its commas made blanks
  tr ' ' '\n' </proc/cmdline | sed -n "s/^$1=//p" | tr ',' ' '
}

[ -z "$(value homeport.probe)" ] || poweroff -f
ip link set lo up
waited=0
until [ -e /sys/class/net/eth0 ] || [ "$(value homeport.nics)" = 0 ] || [ "$waited" -ge 50 ]; do
  usleep 100000
  waited=$((waited + 1))
done
if [ -e /sys/class/net/eth0 ]; then
  mtu=$(value homeport.mtu)
  [ -z "$mtu" ] || ip link set eth0 mtu "$mtu"
  for address in $(value homeport.address); do
    case $address in *:*) ip -6 address add "$address" dev eth0 ;; *) ip address add "$address" dev eth0 ;; esac
  done
  ip link set eth0 up
  for gateway in $(value homeport.gateway); do
    case $gateway in *:*) ip -6 route add default via "$gateway" dev eth0 ;; *) ip route add default via "$gateway" dev eth0 onlink ;; esac
  done
fi

stty -F /dev/ttyS1 raw -echo
exec 3<>/dev/ttyS1
printf 'homeport-guest-ready\n' >&3
while read -r line <&3; do
  sh -c "$line" </dev/null >&3 2>&1
  printf '\001%d\001\n' "$?" >&3
done
poweroff -f
