/*
 * comm/topo/draw.c - see draw.h.
 *
 * Hosts stand on a circle in the order that crosses least, so that neighbours share a leaf; each
 * has a sector with its NICs on it, and an arc outside in the colour of its leaf.  A hop is a curve
 * from NIC to NIC: grey inside a leaf, blue between leaves, red when it arrives on a NIC of another name.
 * Where the rings are in order, only short curves along the rim are seen.
 */
#include "comm/topo/draw.h"

#include "bench/base/err.h"
#include "bench/base/file.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static const double turn = 6.283185307179586;

struct picture {
	const struct topo_judging *j;
	double *nic_angle;		/* per NIC; NAN: its host is not in the job */
	double *host_angle;		/* middle of the sector, per host */
	double sector;
	uint32_t *leaf_colour;		/* per host: ordinal of its leaf; TOPO_NONE unknown */
	size_t leaves;
};

static uint32_t leaf_of(const struct topo_judging *j, uint32_t nic)
{
	uint32_t adapter = nic == TOPO_NONE ? (uint32_t)TOPO_NONE : j->m->log.nics[nic].adapter;
	uint32_t link = adapter == TOPO_NONE ? (uint32_t)TOPO_NONE : topo_fabric_uplink(&j->m->fabric, adapter, 0);

	return link == TOPO_NONE ? (uint32_t)TOPO_NONE : j->m->fabric.links[link].peer;
}

static void picture_init(struct picture *p, const struct topo_judging *j)
{
	const struct topo_log *l = &j->m->log;
	size_t *seen = topo_alloc(l->host_count, sizeof(*seen)), *nics = topo_alloc(l->host_count, sizeof(*nics));
	uint32_t *first = topo_alloc(l->host_count, sizeof(*first));
	uint32_t last = TOPO_NONE;

	*p = (struct picture){ .j = j, .sector = turn / (double)j->host_count };
	p->nic_angle = topo_alloc(l->nic_count, sizeof(*p->nic_angle));
	p->host_angle = topo_alloc(l->host_count, sizeof(*p->host_angle));
	p->leaf_colour = topo_alloc(l->host_count, sizeof(*p->leaf_colour));
	for (size_t h = 0; h < l->host_count; h++)
		p->host_angle[h] = NAN;
	for (size_t i = 0; i < j->host_count; i++)
		p->host_angle[j->hosts[i]] = turn / 4 - p->sector * (double)i;
	for (size_t i = l->nic_count; i-- > 0;) {
		nics[l->nics[i].host]++;
		first[l->nics[i].host] = (uint32_t)i;
	}
	for (size_t i = 0; i < l->nic_count; i++) {
		uint32_t h = l->nics[i].host;
		double place = ((double)seen[h]++ + 0.5) / (double)nics[h] - 0.5;

		p->nic_angle[i] = p->host_angle[h] - 0.8 * p->sector * place;
	}
	for (size_t i = 0; i < j->host_count; i++) {
		uint32_t leaf = nics[j->hosts[i]] ? leaf_of(j, first[j->hosts[i]]) : (uint32_t)TOPO_NONE;

		if (leaf != last && leaf != TOPO_NONE)
			p->leaves++;
		last = leaf;
		p->leaf_colour[j->hosts[i]] = leaf == TOPO_NONE ? (uint32_t)TOPO_NONE : (uint32_t)p->leaves - 1;
	}
	free(seen);
	free(nics);
	free(first);
}

static void picture_release(struct picture *p)
{
	free(p->nic_angle);
	free(p->host_angle);
	free(p->leaf_colour);
}

enum hop_kind { HOP_SAME_LEAF, HOP_OTHER_LEAF, HOP_CROSSED, HOP_KINDS };

static enum hop_kind hop_kind(const struct topo_judging *j, const struct topo_flow *f)
{
	uint32_t a = leaf_of(j, f->nic_from), b = leaf_of(j, f->nic_to);

	if (f->nic_from != TOPO_NONE && f->nic_to != TOPO_NONE &&
	    j->m->log.nics[f->nic_from].name != j->m->log.nics[f->nic_to].name)
		return HOP_CROSSED;
	return a != b ? HOP_OTHER_LEAF : HOP_SAME_LEAF;
}

/* A quadratic curve between two points of the rim, bent to the centre; the last line is the way it arrives. */
static void curve(FILE *f, double a, double b)
{
	double bend = 0.25 + 0.55 * fabs(cos((a - b) / 2)), m = (a + b) / 2 + (fabs(a - b) > turn / 2 ? turn / 2 : 0);
	double mid_x = bend * cos(m), mid_y = bend * sin(m), x = cos(a), y = sin(a), before_x = x, before_y = y;

	for (int i = 0; i <= 24; i++) {
		double t = i / 24.0, u = (1 - t) * (1 - t), v = 2 * t * (1 - t), w = t * t;

		before_x = x;
		before_y = y;
		x = u * cos(a) + v * mid_x + w * cos(b);
		y = u * sin(a) + v * mid_y + w * sin(b);
		fprintf(f, "%.4f %.4f\n", x, y);
	}
	fprintf(f, "\n%.4f %.4f %.4f %.4f\n\n", before_x, before_y, x - before_x, y - before_y);
}

static double end_angle(const struct picture *p, uint32_t nic, uint32_t host)
{
	return nic == TOPO_NONE ? p->host_angle[host] : p->nic_angle[nic];
}

/* Text for gnuplot's double quotes: names come from foreign files. */
static void put_quoted(FILE *f, const char *text)
{
	fputc('"', f);
	for (; *text; text++)
		if ((unsigned char)*text >= ' ' && !strchr("\"\\`$", *text))
			fputc(*text, f);
	fputc('"', f);
}

static void ring_script(const struct picture *p, FILE *f)
{
	static const char *const names[] = { "hop within a leaf", "hop between leaves",
					     "hop that arrives on another NIC" };
	static const char *const plain = "hop";
	static const char *const colours[] = { "#9aa5b1", "#2563a8", "#d03030" };
	const struct topo_judging *j = p->j;
	const struct topo_log *l = &j->m->log;
	bool small = j->host_count <= 40, names_fit = small && l->nic_count <= 8 * j->host_count && j->host_count <= 12;
	double rim = names_fit ? 1.45 : small ? 1.3 : 1.12;
	size_t count[HOP_KINDS] = { 0 };

	fprintf(f, "set terminal svg size 900,900 font 'sans,13' background '#ffffff'\nset output 'ring.svg'\n");
	fprintf(f, "unset border; unset tics; set size ratio -1\nset xrange [-%.2f:%.2f]; set yrange [-%.2f:%.2f]\n",
		rim, rim, rim + 0.1, rim);
	fprintf(f,
		"set key at graph 0.5,0.0 center bottom horizontal samplen 2\nset title \"%zu ranks on %zu hosts, %zu "
		"channels\\nhosts in the "
		"order that crosses least%s\" noenhanced\n",
		j->c->rank_count, j->host_count, j->c->channel_count, p->leaves ? ", outer arc: leaf switch" : "");
	for (int kind = 0; kind < HOP_KINDS; kind++) {
		fprintf(f, "$hop%d << END\n", kind);
		for (size_t i = 0; i < j->flows.count; i++)
			if (hop_kind(j, &j->flows.at[i]) == (enum hop_kind)kind) {
				curve(f, end_angle(p, j->flows.at[i].nic_from, j->flows.at[i].host_from),
				      end_angle(p, j->flows.at[i].nic_to, j->flows.at[i].host_to));
				count[kind]++;
			}
		fprintf(f, "END\n");
	}
	fprintf(f, "$rim << END\n");
	for (size_t i = 0; i < j->host_count; i++) {
		double a = p->host_angle[j->hosts[i]];
		uint32_t leaf = p->leaf_colour[j->hosts[i]];

		for (int k = 0; k <= 12; k++) {
			double t = a + 0.46 * p->sector * (1 - k / 6.0);

			fprintf(f, "%.4f %.4f %u\n", 1.05 * cos(t), 1.05 * sin(t),
				leaf == TOPO_NONE ? 0x666666
				: leaf % 4 == 0	  ? 0xe69f00
				: leaf % 4 == 1	  ? 0x56b4e9
				: leaf % 4 == 2	  ? 0x009e73
						  : 0xcc79a7);
		}
		fprintf(f, "\n");
	}
	fprintf(f, "END\n$nics << END\n");
	for (size_t i = 0; i < l->nic_count; i++)
		if (!isnan(p->nic_angle[i]))
			fprintf(f, "%.4f %.4f\n", cos(p->nic_angle[i]), sin(p->nic_angle[i]));
	fprintf(f, "END\n");
	for (size_t i = 0; i < j->host_count && small; i++) {
		double a = p->host_angle[j->hosts[i]], r = names_fit ? 1.3 : 1.12;

		fprintf(f, "set label ");
		put_quoted(f, l->hosts[j->hosts[i]].name);
		fprintf(f, " at %.4f,%.4f %s noenhanced\n", r * cos(a), r * sin(a),
			fabs(cos(a)) < 0.3 ? "center"
			: cos(a) > 0	   ? "left"
					   : "right");
	}
	for (size_t i = 0; i < l->nic_count && names_fit; i++)
		if (!isnan(p->nic_angle[i])) {
			double a = p->nic_angle[i];

			fprintf(f, "set label ");
			put_quoted(f, l->nics[i].name);
			fprintf(f, " at %.4f,%.4f %s font 'sans,10' tc rgb '#555555' noenhanced\n", 1.1 * cos(a),
				1.1 * sin(a),
				fabs(cos(a)) < 0.3 ? "center"
				: cos(a) > 0	   ? "left"
						   : "right");
		}
	fprintf(f, "plot ");
	for (int kind = 0; kind < HOP_KINDS; kind++)
		if (count[kind])
			fprintf(f, "$hop%d with lines lw %s lc rgb '%s' title '%s (%zu)', ", kind, small ? "2" : "1",
				colours[kind], kind == HOP_SAME_LEAF && !p->leaves ? plain : names[kind], count[kind]);
	for (int kind = 0; kind < HOP_KINDS; kind++)
		if (count[kind] && small)
			fprintf(f,
				"$hop%d using 1:2:3:4 with vectors head filled size screen 0.014,18 lc rgb '%s' "
				"notitle, ",
				kind, colours[kind]);
	fprintf(f,
		"$rim using 1:2:3 with lines lw 6 lc rgb variable notitle, $nics using 1:2 with points pt 7 ps %s lc "
		"rgb '#333333' notitle\n",
		small ? "0.7" : "0.25");
}

static void nics_script(const struct picture *p, FILE *f)
{
	const struct topo_judging *j = p->j;
	const struct topo_log *l = &j->m->log;
	size_t *loads = topo_alloc(2 * l->nic_count, sizeof(*loads)), *seen = topo_alloc(l->host_count, sizeof(*seen));
	size_t widest = 0, most = 0;
	bool small;

	for (size_t i = 0; i < j->flows.count; i++) {
		if (j->flows.at[i].nic_from != TOPO_NONE)
			loads[2 * j->flows.at[i].nic_from]++;
		if (j->flows.at[i].nic_to != TOPO_NONE)
			loads[2 * j->flows.at[i].nic_to + 1]++;
	}
	for (size_t i = 0; i < l->nic_count; i++)
		widest = ++seen[l->nics[i].host] > widest ? seen[l->nics[i].host] : widest;
	for (size_t i = 0; i < 2 * l->nic_count; i++)
		most = loads[i] > most ? loads[i] : most;
	small = j->host_count * widest <= 300;
	fprintf(f, "set terminal svg size %d,%d font 'sans,13' background '#ffffff'\nset output 'nics.svg'\n", 900,
		(int)(j->host_count < 8 ? 360 : j->host_count < 60 ? 160 + 22 * j->host_count : 1480));
	fprintf(f, "set title 'Ring channels that leave (left half) and enter (right half) each NIC' noenhanced\n");
	fprintf(f,
		"set palette defined (0 '#f4f4f4', 0.001 '#d6e6f2', 1 '#1f5a92')\nset cblabel 'channels'\nset cbrange "
		"[0:*]\nset cbtics%s\n",
		most <= 12 ? " 1" : "");
	fprintf(f,
		"set xrange [-0.5:%.1f]\nset yrange [%.1f:-0.5]\nset xlabel 'NIC of the host, in the order of its "
		"list'\n",
		(double)widest - 0.5, (double)j->host_count - 0.5);
	fprintf(f, "set xtics 1 out nomirror\nset ytics out nomirror\n");
	if (j->host_count <= 60) {
		fprintf(f, "set ytics (");
		for (size_t i = 0; i < j->host_count; i++) {
			fprintf(f, "%s", i ? ", " : "");
			put_quoted(f, l->hosts[j->hosts[i]].name);
			fprintf(f, " %zu", i);
		}
		fprintf(f, ") noenhanced\n");
	} else {
		fprintf(f, "set ylabel 'host, in the order that crosses least'\n");
	}
	fprintf(f, "$loads << END\n");
	for (size_t i = 0; i < j->host_count; i++) {
		size_t column = 0;

		for (size_t n = 0; n < l->nic_count; n++) {
			if (l->nics[n].host != j->hosts[i])
				continue;
			for (int side = 0; side < 2; side++)
				fprintf(f, "%.2f %zu %zu\n", (double)column + 0.24 * (side ? 1 : -1), i,
					loads[2 * n + (size_t)side]);
			column++;
		}
	}
	fprintf(f, "END\nset style fill solid border lc rgb '#ffffff'\n");
	fprintf(f, "plot $loads using 1:2:(0.23):(0.42):3 with boxxyerror fc palette notitle");
	if (small)
		fprintf(f,
			", $loads using 1:2:(sprintf('%%d', $3)) with labels font 'sans,10' tc rgb '#000000' notitle");
	fprintf(f, "\n");
	free(loads);
	free(seen);
}

static int run_gnuplot(const char *folder, const char *script)
{
	char command[PATH_BYTES + 64];

	for (const char *c = folder; *c; c++)
		if (*c == '\'')
			return err(FAILED, "cannot draw in '%s': a folder with a quote in its name", folder);
	snprintf(command, sizeof(command), "cd '%.*s' && gnuplot %s", PATH_BYTES - 1, folder, script);
	return system(command) ? FAILED : OK;
}

int topo_draw(const struct topo_judging *j, const char *folder)
{
	static const char *const scripts[] = { "ring.gp", "nics.gp" };
	struct picture p;
	int rc = OK;

	picture_init(&p, j);
	for (size_t i = 0; i < ARRAY_LEN(scripts) && !rc; i++) {
		char path[PATH_BYTES];
		FILE *f;

		rc = path_make(path, "%s/%s", folder, scripts[i]);
		f = rc ? NULL : file_begin(path);
		if (!f) {
			rc = FAILED;
			break;
		}
		if (i)
			nics_script(&p, f);
		else
			ring_script(&p, f);
		rc = file_end(f, path, rc);
		if (!rc && run_gnuplot(folder, scripts[i]))
			warn("gnuplot did not draw '%s/%s'", folder, scripts[i]);
	}
	picture_release(&p);
	return rc;
}
