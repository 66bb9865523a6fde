#!/bin/sh
# tests/two_hosts.sh RATE PROGRAM ARGUMENT... - the program as two ranks on two hosts that one slow wire joins.
#
# A host is a network namespace with a host name of its own; the wire is a pair of virtual interfaces.  Both its ends let RATE
# (as tc writes it: 100mbit) out through a token bucket of 32 KiB, and all that MPI moves goes over it.  mpirun runs on the
# first host and reaches the second through an agent that enters its namespace instead of ssh.
#
# Exit status: the program's; 77 behind "SKIP: why" where this cannot be had (no root, no namespaces, no tbf).  Whatever was
# started or made here is ended and removed, by its name, on every way out.

rate=$1
shift
a=sfa$$ b=sfb$$
dir=$(mktemp -d /tmp/sfscale-hosts-XXXXXX) || exit 2

cleanup() {
	for host in $a $b; do
		for pid in $(ip netns pids $host 2>/dev/null); do
			kill -9 "$pid"
		done
		ip netns del $host
	done 2>/dev/null
	rm -rf "$dir"
}
trap cleanup EXIT
trap 'exit 1' HUP INT TERM

lacks() {
	echo "SKIP: $*"
	exit 77
}

command -v ip >/dev/null && command -v tc >/dev/null && command -v unshare >/dev/null || lacks "ip, tc or unshare are not installed"
ip netns add $a 2>/dev/null && ip netns add $b 2>/dev/null || lacks "network namespaces cannot be made here"
ip link add wire netns $a type veth peer name wire netns $b 2>/dev/null || lacks "no virtual interfaces (veth)"
for host in $a $b; do
	ip -n $host link set lo up
	ip -n $host link set wire up
	tc -n $host qdisc add dev wire root tbf rate "$rate" burst 32kb limit 4mb 2>/dev/null || lacks "no traffic shaping (tbf)"
done
ip -n $a addr add 10.77.0.1/24 dev wire
ip -n $b addr add 10.77.0.2/24 dev wire

cat >"$dir/agent" <<'EOF'
#!/bin/sh
host=$1
shift
exec ip netns exec "$host" unshare -u sh -c "hostname $host; $*"
EOF
chmod +x "$dir/agent"
TMPDIR=$dir OMPI_ALLOW_RUN_AS_ROOT=1 OMPI_ALLOW_RUN_AS_ROOT_CONFIRM=1 timeout -k 5 60 ip netns exec $a unshare -u sh -c \
	"hostname $a; exec mpirun --host $a:1,$b:1 -np 2 --bind-to none --mca plm_rsh_agent $dir/agent --mca mpi_yield_when_idle 1 --mca coll_libnbc_iallreduce_algorithm 4 \
	--mca btl_tcp_if_include wire --mca oob_tcp_if_include wire \"\$@\"" sh "$@"
