# Makes Inter-Regular.otf and Inter-SemiBold.otf of Debian's fonts-inter (apt-get install fonts-inter; pip install fonttools):
# Latin letters and punctuation, digits of one width, one family name for both weights. Prints the widths for font.rs.
from fontTools.ttLib import TTFont
from fontTools import subset
for src, style, weight in (("Regular","Regular",400),("SemiBold","SemiBold",600)):
    f = TTFont(f"/usr/share/fonts/opentype/inter/Inter-{src}.otf")
    # find tabular digits through the tnum feature
    gsub = f["GSUB"].table
    m = {}
    for fr in gsub.FeatureList.FeatureRecord:
        if fr.FeatureTag == "tnum":
            for li in fr.Feature.LookupListIndex:
                for st in gsub.LookupList.Lookup[li].SubTable:
                    st = getattr(st, "ExtSubTable", st)
                    if hasattr(st, "mapping"): m.update(st.mapping)
    for t in f["cmap"].tables:
        for cp in "0123456789.,:+-\u2212\u2013":
            g = t.cmap.get(ord(cp))
            if cp in "0123456789" and g in m: t.cmap[ord(cp)] = m[g]
    o = subset.Options(); o.layout_features = ["kern","mark","mkmk","ccmp","locl"]; o.hinting=False; o.desubroutinize=False; o.name_IDs=["*"]; o.drop_tables += ["STAT","MATH"]
    s = subset.Subsetter(o)
    s.populate(unicodes=list(range(0x20,0x7f))+list(range(0xa0,0x180))+[0x2013,0x2014,0x2018,0x2019,0x201c,0x201d,0x2022,0x2026,0x2212,0x20ac,0x20ab,0x00a3,0x00a5,0x2191,0x2193,0x2192,0x25b2,0x25bc,0x00d7,0x00b7,0x0394,0xfffd])
    s.subset(f)
    for n in list(f["name"].names):
        if n.nameID in (16,17,21,22,25): f["name"].removeNames(nameID=n.nameID)
    for n in f["name"].names:
        if n.nameID == 1: n.string = "Inter"
        if n.nameID == 2: n.string = style
    f["OS/2"].usWeightClass = weight
    f.save(f"Inter-{src}.otf")
    cmap, hmtx = f.getBestCmap(), f["hmtx"]
    print(style, f["head"].unitsPerEm, [hmtx[cmap[c]][0] for c in range(0x20, 0x7f)])
